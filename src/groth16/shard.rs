//! One shard of a sum, for any queue: made anywhere, kept in a file, put together later.
//!
//! ```text
//!   plimsoll shard --query A --part 3/16  ->  one line of JSON, 0600
//!   plimsoll join shards of all parts of all five queries  ->  a proof
//! ```
//!
//! A shard is a sum of scalars times points over part `part` of `parts` of a query. Shards need
//! nothing of each other, so a queue may make them in any order, again and on any machine.
//!
//! ```text
//!   {"plimsoll_shard":1,"query":"A","part":3,"parts":16,
//!    "key":"..","assignment":"..","point":"..","checksum":".."}
//! ```
//!
//! Invariants, checked when one is read and when they are joined: the checksum is that of all other
//! fields; the point is on the curve and in the group; key and assignment are the same in all
//! shards; each part of each query is there once. And the proof is verified, as ever.
//!
//! A shard tells about the witness: who guesses the scalars can check the guess. Its file is for
//! its owner only.
//!
//! It must never be taken for another circuit's, or for another witness's.

use super::error::ProveError;
use super::key::Query;
use super::partial::Sums;
use crate::tiles::Share;
use ark_bn254::{G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::CurveGroup;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// What the format is now.
const VERSION: u32 = 1;

/// The names of queries, as [`Query::ALL`] orders them.
const NAMES: [&str; 5] = ["A", "B1", "B2", "H", "L"];

/// A point of either group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardPoint {
    /// Of the queries A, B1, H and L.
    G1(G1Affine),
    /// Of the query B2.
    G2(G2Affine),
}

/// One part of one of the five sums of a proof. Holding one proves that its point is in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    query: Query,
    share: Share,
    key: u64,
    assignment: u64,
    point: ShardPoint,
}

/// The fields of a shard's file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardText {
    plimsoll_shard: u32,
    query: String,
    part: usize,
    parts: usize,
    key: String,
    assignment: String,
    point: String,
    checksum: String,
}

impl ShardText {
    fn checksum_of_the_others(&self) -> String {
        let Self { plimsoll_shard, query, part, parts, key, assignment, point, .. } = self;
        let text = format!("{plimsoll_shard} {query} {part}/{parts} {key} {assignment} {point}");
        format!("{:016x}", XxHash3_64::oneshot(text.as_bytes()))
    }
}

/// Returns the query called `name`: A, B1, B2, H or L.
#[must_use]
pub fn query_named(name: &str) -> Option<Query> {
    Query::ALL.into_iter().zip(NAMES).find(|(_, known)| *known == name).map(|(query, _)| query)
}

impl Shard {
    pub(super) fn g1(query: Query, share: Share, of: [u64; 2], sum: G1Projective) -> Self {
        let [key, assignment] = of;
        Self { query, share, key, assignment, point: ShardPoint::G1(sum.into_affine()) }
    }

    pub(super) fn g2(query: Query, share: Share, of: [u64; 2], sum: G2Projective) -> Self {
        let [key, assignment] = of;
        Self { query, share, key, assignment, point: ShardPoint::G2(sum.into_affine()) }
    }

    /// Says whether this is that part of that query, of a proof with the key of `fingerprint`.
    #[must_use]
    pub fn is_of(&self, query: Query, share: Share, fingerprint: u64) -> bool {
        (self.query, self.share, self.key) == (query, share, fingerprint)
    }

    /// Returns the shard as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        // Writing into a vector does not fail.
        let _ = match &self.point {
            ShardPoint::G1(point) => point.serialize_compressed(&mut bytes),
            ShardPoint::G2(point) => point.serialize_compressed(&mut bytes),
        };
        let mut text = ShardText {
            plimsoll_shard: VERSION,
            query: NAMES[self.query as usize].to_owned(),
            part: self.share.rank() + 1,
            parts: self.share.ranks(),
            key: format!("{:016x}", self.key),
            assignment: format!("{:016x}", self.assignment),
            point: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            checksum: String::new(),
        };
        text.checksum = text.checksum_of_the_others();
        // Strings and numbers: nothing in it can fail to be written.
        serde_json::to_string(&text).unwrap_or_default() + "\n"
    }

    /// Reads what [`Shard::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// [`ProveError::Shard`] with what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, ProveError> {
        let wrong = |why: &str| ProveError::Shard(format!("{why}; make it again"));
        let text: ShardText = serde_json::from_str(text.trim())
            .map_err(|why| wrong(&format!("it is no shard: {why}")))?;
        if text.plimsoll_shard != VERSION {
            return Err(wrong(&format!("it is of version {}", text.plimsoll_shard)));
        }
        if text.checksum != text.checksum_of_the_others() {
            return Err(wrong("its checksum is wrong"));
        }
        let query = query_named(&text.query).ok_or_else(|| wrong("there is no such query"))?;
        let share = text.part.checked_sub(1).and_then(|part| Share::new(part, text.parts));
        let share = share.ok_or_else(|| wrong("there is no such part"))?;
        let number = |hex: &str| u64::from_str_radix(hex, 16).map_err(|_| wrong("no number"));
        let bytes = (0..text.point.len()).step_by(2).map(|at| {
            let digits = text.point.get(at..at + 2)?;
            u8::from_str_radix(digits, 16).ok()
        });
        let bytes = bytes.collect::<Option<Vec<u8>>>().ok_or_else(|| wrong("no point"))?;
        let point = match query {
            Query::B2 => ShardPoint::G2(G2Affine::deserialize_compressed(&bytes[..])?),
            _ => ShardPoint::G1(G1Affine::deserialize_compressed(&bytes[..])?),
        };
        let (key, assignment) = (number(&text.key)?, number(&text.assignment)?);
        Ok(Self { query, share, key, assignment, point })
    }
}

/// Adds the shards of all queries up, for the key that has `fingerprint`.
pub(super) fn add_up(shards: &[Shard], fingerprint: u64) -> Result<Sums, ProveError> {
    let mut sums = Sums::default();
    let Some(first) = shards.first() else {
        return Err(ProveError::Shard("there is none to join".to_owned()));
    };
    for (query, name) in Query::ALL.into_iter().zip(NAMES) {
        let mut own: Vec<&Shard> = shards.iter().filter(|shard| shard.query == query).collect();
        own.sort_by_key(|shard| shard.share.rank());
        let parts = own.first().map_or(1, |shard| shard.share.ranks());
        let there = own.iter().map(|shard| (shard.share.rank(), shard.share.ranks()));
        if !there.eq((0..parts).map(|part| (part, parts))) {
            let found: Vec<String> = own
                .iter()
                .map(|shard| format!("{}/{}", shard.share.rank() + 1, shard.share.ranks()))
                .collect();
            return Err(ProveError::Shard(format!(
                "of the query {name} each of {parts} parts must be there once, and these are: {}",
                if found.is_empty() { "none".to_owned() } else { found.join(", ") }
            )));
        }
        for shard in own {
            if shard.key != fingerprint {
                return Err(ProveError::Shard(format!(
                    "one of the query {name} is of another key"
                )));
            }
            if shard.assignment != first.assignment {
                let why = format!("one of the query {name} is of another witness than the first");
                return Err(ProveError::Shard(why));
            }
            match (query, shard.point) {
                (Query::A, ShardPoint::G1(point)) => sums.a += point,
                (Query::B1, ShardPoint::G1(point)) => sums.b1 += point,
                (Query::H, ShardPoint::G1(point)) => sums.h += point,
                (Query::L, ShardPoint::G1(point)) => sums.l += point,
                (_, ShardPoint::G2(point)) => sums.b2 += point,
                (Query::B2, ShardPoint::G1(_)) => {
                    return Err(ProveError::Shard("B2 has points of G2".to_owned()));
                }
            }
        }
    }
    Ok(sums)
}
