//! Frames as they are documented, and frames that are damaged.

use super::*;
use crate::codec::{LaneSpec, encode};

const STAMP: Stamp = Stamp { owner: 0x1122_3344_5566_7788, generation: 3 };

fn framed(input: &[u8], placement: Placement) -> Vec<u8> {
    let mut scratch = Vec::new();
    let encoded = encode(LaneSpec::U64, input, &mut scratch);
    let kinds = (encoded.codec(), LaneKind::U64);
    let header = Header::new(kinds, placement, STAMP, input.len(), encoded.payload()).unwrap();
    let mut frame = vec![0xee; header.frame_bytes() as usize];
    header.write(encoded.payload(), &mut frame).unwrap();
    assert_eq!(Header::read(&frame), Ok(header));
    frame
}

fn column() -> Vec<u8> {
    (0..600u64).flat_map(|row| (row * row % 251).to_le_bytes()).collect()
}

#[test]
fn the_layout_is_the_documents() {
    let frame = framed(&column(), Placement::OwnPages);
    assert_eq!(frame[..8], [0x50, 0x4c, 0x53, 0x46, 1, 0, CodecId::Packed as u8, 2]);
    assert_eq!(number(&frame[8..16]), 4800);
    assert_eq!(number(&frame[16..24]), 1 + 3 + 8 + 600);
    assert_eq!(number(&frame[24..32]), STAMP.owner);
    assert_eq!(number(&frame[32..40]), STAMP.generation);
    assert_eq!(number(&frame[40..48]), 4096);
    assert_eq!(number(&frame[48..56]), checksum(&frame[4096..][..612]));
    assert_eq!(number(&frame[56..64]), checksum(&frame[..56]));
    assert_eq!(frame.len(), 8192);
}

#[test]
fn any_flipped_bit_is_corrupt() {
    let input = column();
    let mut out = vec![0; input.len()];
    for placement in [Placement::Packed, Placement::OwnPages] {
        let mut frame = framed(&input, placement);
        restore(&frame, STAMP, &mut out).unwrap();
        assert_eq!(out, input);
        for bit in 0..8 * frame.len() {
            frame[bit / 8] ^= 1 << (bit % 8);
            let found = restore(&frame, STAMP, &mut out);
            assert!(matches!(found, Err(Error::Corrupt { .. })), "bit {bit}: {found:?}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn torn_short_and_foreign_frames_are_corrupt() {
    let input = column();
    let mut out = vec![0; input.len()];
    let frame = framed(&input, Placement::OwnPages);
    for kept in [0, 1, 63, 64, 4096, frame.len() - 1] {
        let torn = restore(&frame[..kept], STAMP, &mut out);
        assert!(matches!(torn, Err(Error::Corrupt { .. })), "{kept}");
        let mut torn = frame.clone();
        torn[kept..].fill(0);
        if torn != frame {
            assert!(restore(&torn, STAMP, &mut out).is_err(), "zeros from {kept}");
        }
    }
    let old = Stamp { generation: 2, ..STAMP };
    assert!(matches!(restore(&frame, old, &mut out), Err(Error::Corrupt { .. })));
    assert!(restore(&frame, STAMP, &mut out[1..]).is_err());
}

#[test]
fn a_whole_header_that_breaks_a_rule_is_refused() {
    let good = framed(&column(), Placement::Packed);
    let cases: [(usize, u8); 8] =
        [(0, 0), (4, 2), (6, 4), (7, 8), (15, 0x80), (23, 1), (41, 1), (44, 1)];
    for (at, byte) in cases {
        let mut frame = good.clone();
        frame[at] = byte;
        let checksum = checksum(&frame[..CHECKED_BYTES]);
        frame[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        match Header::read(&frame) {
            Err(Error::Version { found: 2, expected: 1 }) => assert_eq!(at, 4),
            Err(Error::Corrupt { .. }) => assert_ne!(at, 4),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn empty_vectors_and_wrong_buffers() {
    let frame = framed(&[], Placement::Packed);
    restore(&frame, STAMP, &mut []).unwrap();
    let kinds = (CodecId::Raw, LaneKind::Bytes);
    assert!(Header::new(kinds, Placement::Packed, STAMP, 3, &[0; 4]).is_err());
    let header = Header::new(kinds, Placement::Packed, STAMP, 4, &[0; 4]).unwrap();
    assert!(header.write(&[0; 4], &mut [0; 100]).is_err());
    assert!(header.write(&[0; 3], &mut [0; 4096]).is_err());
}

/// Damage of many bytes at once, from `SEED`: a frame is never restored to other bytes.
#[test]
fn frames_that_are_damaged_at_random_are_refused() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7u64);
    let mut state = seed;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let input = column();
    let good = [Placement::Packed, Placement::OwnPages].map(|placement| framed(&input, placement));
    for case in 0..4000 {
        let good = &good[below(2)];
        let mut frame = good.clone();
        for _ in 0..=below(4) {
            let limit = if below(2) == 0 { HEADER_BYTES } else { frame.len() };
            let start = below(limit);
            let end = (start + 1 + below(16)).min(frame.len());
            match below(3) {
                0 => frame[start..end].fill(0),
                1 => frame[start..end].fill(0xff),
                _ => frame[start..end].iter_mut().for_each(|byte| *byte = below(256) as u8),
            }
        }
        if below(8) == 0 {
            frame.truncate(below(frame.len()));
        }
        let mut out = vec![0; input.len()];
        match restore(&frame, STAMP, &mut out) {
            Ok(()) => assert_eq!(&frame, good, "SEED={seed}: case {case} was believed"),
            Err(Error::Corrupt { .. } | Error::Version { .. }) => {}
            Err(other) => panic!("SEED={seed}: case {case}: {other:?}"),
        }
    }
}
