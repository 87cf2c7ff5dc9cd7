//! Turns over threads: every element arrives where it belongs, and one rank's fault is everybody's.

use super::{
    Alone, Exchange, ExchangeError, Local, MESSAGE_BYTES_MAX, Refusal, RefusalKind, ShareOf,
    ShareTurn, Threads,
};
use crate::Runtime;
use crate::tiles::{Layout, Share, Texture, Tiles};
use plimsoll_arena::Secrecy;

fn runtime() -> Runtime {
    Runtime::builder().own_limit().build().unwrap()
}

/// Runs `work` on a thread for each rank.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            Threads::new(ranks).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The part of a matrix that a rank has, where each element is its own index.
fn part(runtime: &Runtime, whole: Layout, share: Share, side: ShareOf) -> Tiles<u64> {
    let layout = match side {
        ShareOf::Rows => share.rows(whole).unwrap(),
        ShareOf::Columns => share.columns(whole).unwrap(),
    };
    let mut tiles = Tiles::zeroed(runtime, layout, Secrecy::Secret);
    tiles.write_range(0, &expected(whole, share, side)).unwrap();
    tiles
}

fn expected(whole: Layout, share: Share, side: ShareOf) -> Vec<u64> {
    let (rows, columns) = match side {
        ShareOf::Rows => {
            let first = share.first_row(whole);
            (first..first + share.rows(whole).unwrap().rows(), 0..whole.columns())
        }
        ShareOf::Columns => {
            let first = share.first_column(whole);
            (0..whole.rows(), first..first + share.columns(whole).unwrap().columns())
        }
    };
    let index =
        |row: usize| columns.clone().map(move |column| (row * whole.columns() + column) as u64);
    rows.flat_map(index).collect()
}

fn values(tiles: &Tiles<u64>) -> Vec<u64> {
    let mut values = vec![0; tiles.len()];
    tiles.read_range(0, &mut values).unwrap();
    values
}

#[test]
fn a_turn_there_and_back_moves_every_element_for_any_number_of_ranks() {
    for (rows, columns, h, w) in [(32, 16, 2, 1), (16, 16, 2, 2), (64, 8, 8, 1)] {
        let whole = Layout::new(rows, columns, h, w).unwrap();
        for ranks in [1, 2, 3, 4, 8] {
            let sent = on_ranks(ranks, |mut exchange| {
                let share = Share::new(exchange.rank(), ranks).unwrap();
                let runtime = runtime();
                let mut turn = |from, tiles| {
                    let turn = ShareTurn { whole, from };
                    turn.make(&runtime, tiles, Texture::Any, &mut exchange).unwrap()
                };
                let columns = turn(ShareOf::Rows, part(&runtime, whole, share, ShareOf::Rows));
                if ranks > 1 {
                    assert_eq!(values(&columns), expected(whole, share, ShareOf::Columns));
                }
                let rows = turn(ShareOf::Columns, columns);
                assert_eq!(values(&rows), expected(whole, share, ShareOf::Rows));
                assert!(runtime.secret_pool().check());
                let blocks = [ShareOf::Rows, ShareOf::Columns]
                    .map(|from| ShareTurn { whole, from }.sent_blocks(share))
                    .iter()
                    .sum::<usize>();
                (exchange.sent_bytes(), (blocks * whole.block_len() * 8) as u64)
            });
            for (sent, tiles) in sent {
                let words = sent - tiles;
                assert!(words < 64 * ranks as u64, "{ranks} ranks: {words} bytes beside {tiles}");
            }
        }
    }
}

#[test]
fn a_block_that_is_missing_on_one_rank_ends_all() {
    let whole = Layout::new(32, 16, 2, 1).unwrap();
    for (ranks, bad) in [(2, 0), (3, 2), (4, 1)] {
        let all = on_ranks(ranks, |mut exchange| {
            let share = Share::new(exchange.rank(), ranks).unwrap();
            let runtime = runtime();
            let mut tiles = part(&runtime, whole, share, ShareOf::Columns);
            if share.rank() == bad {
                // A block for another rank.
                let other = share.range(whole.row_stripes()).start == 0;
                let stripe = if other { whole.row_stripes() - 1 } else { 0 };
                let mut scratch = vec![0; tiles.layout().row_stripe_len()];
                tiles.take_rows(stripe, &mut scratch).unwrap();
            }
            let turn = ShareTurn { whole, from: ShareOf::Columns };
            turn.make(&runtime, tiles, Texture::Any, &mut exchange).map(|_| ())
        });
        for error in all {
            let Err(ExchangeError::Refused(Refusal { rank, why, .. })) = error else {
                panic!("{error:?}")
            };
            assert!(rank == bad && why.contains("was taken"), "{ranks} ranks, {bad}: {why}");
        }
    }
}

#[test]
fn blocks_that_are_away_are_turned_and_those_that_arrive_leave() {
    let whole = Layout::new(256, 128, 32, 16).unwrap();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let spilled = on_ranks(2, |mut exchange| {
        let share = Share::new(exchange.rank(), 2).unwrap();
        let used = Runtime::builder().build().unwrap().meter().rss_bytes().unwrap();
        let spill = crate::spill::SpillOptions::new(folder.path()).packed_limit_bytes(0);
        let runtime = Runtime::builder()
            .own_limit()
            .limit_bytes(used + (64 << 20))
            .spill(spill)
            .build()
            .unwrap();
        let tiles = part(&runtime, whole, share, ShareOf::Rows);
        runtime.set_limit_bytes(Some(1));
        runtime.reclaim_point("all leave", 0);
        runtime.set_limit_bytes(Some(used + (64 << 20)));
        let turn = ShareTurn { whole, from: ShareOf::Rows };
        let columns = turn.make(&runtime, tiles, Texture::Any, &mut exchange).unwrap();
        assert_eq!(values(&columns), expected(whole, share, ShareOf::Columns));
        runtime.spill_stats().loaded_total
    });
    assert!(spilled.iter().all(|bytes| *bytes > 0), "{spilled:?}");
}

#[test]
fn messages_are_gathered_in_order_and_given_to_all() {
    for ranks in 1..=4 {
        let all = on_ranks(ranks, |mut exchange| {
            let mine = vec![exchange.rank() as u8; exchange.rank()];
            let gathered = exchange.gather(&mine).unwrap();
            let mut told = gathered.clone().map_or(b"mine".to_vec(), |all| all.concat());
            exchange.broadcast(&mut told).unwrap();
            (gathered, told)
        });
        let expected: Vec<Vec<u8>> = (0..ranks).map(|rank| vec![rank as u8; rank]).collect();
        assert_eq!(all[0].0, Some(expected.clone()));
        assert!(all[1..].iter().all(|(gathered, _)| gathered.is_none()));
        assert!(all.iter().all(|(_, told)| *told == expected.concat()), "{all:?}");
    }
}

#[test]
fn what_does_not_fit_a_message_is_refused() {
    let all = on_ranks(2, |mut exchange| match exchange.rank() {
        0 => exchange.pass(Some((1, &[1, 2, 3])), None).map(|_| ()),
        _ => exchange.pass(None, Some((0, &mut [0; 2]))).map(|_| ()),
    });
    assert_eq!(all, [Ok(()), Err(ExchangeError::Length { rank: 0, expected: 2, found: 3 })]);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert!(matches!(Alone.gather(&long), Err(ExchangeError::Length { .. })));
    let nobody = Alone.pass(Some((1, &[])), None);
    assert_eq!(nobody, Err(ExchangeError::NoSuchRank { rank: 1, ranks: 1 }));
    assert_eq!(Alone.local(), Local { rank: 0, ranks: 1 });
    let refusal = Refusal { rank: 0, kind: RefusalKind::Input, why: "a long \u{e9}".repeat(400) };
    let all = on_ranks(2, |mut exchange| {
        let mine = if exchange.rank() == 0 { Err(refusal.clone()) } else { Ok(()) };
        exchange.agree(mine).unwrap_err().to_string()
    });
    assert!(all[1].starts_with("rank 0: a long") && all[1].len() < 2200, "{}", all[1]);
}
