//! Tiles against a plain vector, over a grid of layouts.

use super::{Layout, LayoutError, Outlook, Texture, Tiles, TilesError, Walk};
use crate::{Runtime, Secrecy};

const OUTLOOK: Outlook = Outlook { next: Walk::Rows, texture: Texture::Any };

fn runtime() -> Runtime {
    Runtime::builder().own_limit().build().unwrap()
}

/// Layouts with blocks of one element, whole rows, whole columns, all, and in between; not only
/// powers of two.
fn layouts() -> Vec<Layout> {
    let shapes = [
        (1, 1, 1, 1),
        (4, 4, 1, 1),
        (4, 6, 2, 3),
        (6, 4, 6, 4),
        (12, 20, 4, 10),
        (16, 32, 16, 2),
        (32, 16, 1, 16),
        (64, 128, 16, 32),
    ];
    shapes.map(|(r, c, h, w)| Layout::new(r, c, h, w).unwrap()).to_vec()
}

fn numbered(layout: Layout) -> Vec<u64> {
    (0..layout.len() as u64).map(|i| i * 7 + 1).collect()
}

fn filled(runtime: &Runtime, layout: Layout, secrecy: Secrecy) -> Tiles<u64> {
    let mut tiles = Tiles::zeroed(runtime, layout, secrecy);
    tiles.write_range(0, &numbered(layout)).unwrap();
    tiles
}

fn whole(tiles: &Tiles<u64>) -> Vec<u64> {
    let mut values = vec![0; tiles.len()];
    tiles.read_range(0, &mut values).unwrap();
    values
}

#[test]
fn stripes_are_the_rows_and_columns_of_the_matrix() {
    let runtime = runtime();
    for secrecy in [Secrecy::Public, Secrecy::Secret] {
        for layout in layouts() {
            let values = numbered(layout);
            let tiles = filled(&runtime, layout, secrecy);
            let mut scratch = vec![0; layout.row_stripe_len()];
            for stripe in 0..layout.row_stripes() {
                tiles.load_rows(stripe, &mut scratch).unwrap();
                let start = stripe * scratch.len();
                assert_eq!(scratch, values[start..start + scratch.len()], "{layout}");
            }
            let mut scratch = vec![0; layout.column_stripe_len()];
            for stripe in 0..layout.column_stripes() {
                tiles.load_columns(stripe, &mut scratch).unwrap();
                for (i, value) in scratch.iter().enumerate() {
                    let column = stripe * layout.block_columns() + i / layout.rows();
                    let row = i % layout.rows();
                    assert_eq!(*value, values[row * layout.columns() + column], "{layout}");
                }
            }
        }
    }
}

#[test]
fn what_is_stored_is_loaded_and_rows_become_columns_of_the_transposed() {
    let runtime = runtime();
    for layout in layouts() {
        let values = numbered(layout);
        let mut tiles = filled(&runtime, layout, Secrecy::Public);
        let mut turned = Tiles::zeroed(&runtime, layout.transposed(), Secrecy::Public);
        let mut scratch = vec![0; layout.row_stripe_len()];
        for stripe in 0..layout.row_stripes() {
            tiles.prefetch_rows(stripe + 1);
            tiles.take_rows(stripe, &mut scratch).unwrap();
            turned.store_columns(stripe, &scratch, OUTLOOK).unwrap();
        }
        let expected: Vec<u64> = (0..layout.columns())
            .flat_map(|c| (0..layout.rows()).map(move |r| (r, c)))
            .map(|(r, c)| values[r * layout.columns() + c])
            .collect();
        assert_eq!(whole(&turned), expected, "{layout}");
        let mut scratch = vec![0; layout.column_stripe_len()];
        for stripe in 0..layout.column_stripes() {
            turned.take_rows(stripe, &mut scratch).unwrap();
            tiles.store_columns(stripe, &scratch, OUTLOOK).unwrap();
        }
        assert_eq!(whole(&tiles), values, "{layout}");
        let mut scratch = vec![0; layout.row_stripe_len()];
        for stripe in 0..layout.row_stripes() {
            tiles.load_rows(stripe, &mut scratch).unwrap();
            scratch.iter_mut().for_each(|value| *value += 1);
            tiles.store_rows(stripe, &scratch, OUTLOOK).unwrap();
        }
        assert_eq!(whole(&tiles), values.iter().map(|v| v + 1).collect::<Vec<_>>());
    }
}

#[test]
fn ranges_of_any_start_and_length_read_what_was_written() {
    let runtime = runtime();
    let layout = Layout::new(12, 20, 4, 10).unwrap();
    let mut expected = vec![0; layout.len()];
    let mut tiles = Tiles::zeroed(&runtime, layout, Secrecy::Secret);
    assert_eq!(whole(&tiles), expected, "a fresh vector is zeroes");
    let mut next = 1;
    for (start, len) in [(0, 1), (5, 37), (19, 2), (79, 82), (239, 1), (240, 0), (0, 240)] {
        let values: Vec<u64> = (next..).take(len).collect();
        next += len as u64;
        tiles.write_range(start, &values).unwrap();
        expected[start..start + len].copy_from_slice(&values);
        assert_eq!(whole(&tiles), expected);
        let mut part = vec![0; len];
        tiles.read_range(start, &mut part).unwrap();
        assert_eq!(part, values);
    }
}

#[test]
fn a_walk_that_takes_lets_go_of_what_it_passed() {
    let runtime = runtime();
    let layout = Layout::new(12, 20, 4, 10).unwrap();
    let mut tiles = filled(&runtime, layout, Secrecy::Public);
    let mut seen = Vec::new();
    for start in (0..240).step_by(48) {
        let mut part = vec![0; 48];
        tiles.take_range(start, &mut part).unwrap();
        seen.extend(part);
        let first_left = (start + 48) / 80 * 80;
        if first_left > 0 {
            let error = tiles.read_range(first_left - 1, &mut [0]).unwrap_err();
            assert!(matches!(error, TilesError::Taken { .. }));
        }
        if first_left < 240 {
            tiles.read_range(first_left, &mut [0]).unwrap();
        }
    }
    assert_eq!(seen, numbered(layout));
}

#[test]
fn distances_order_blocks_as_the_next_walk_meets_them() {
    let runtime = runtime();
    let layout = Layout::new(16, 32, 4, 4).unwrap();
    let tiles = Tiles::<u64>::zeroed(&runtime, layout, Secrecy::Public);
    let side = super::Side::Columns;
    for stripe in 0..layout.column_stripes() {
        let at = |index| {
            let made = 2 * (stripe + 1) * layout.row_stripes();
            made as u64 + tiles.distance(side, stripe, tiles.order(index, Walk::Rows))
        };
        for index in tiles.stripe_blocks(side, stripe) {
            // From the start of this walk: all of its blocks, then those before this one.
            assert_eq!(at(index), 2 * (layout.blocks() + index) as u64);
        }
    }
    assert_eq!(tiles.distance(side, 7, tiles.order(8 + 1, Walk::Columns)), 2 * 5);
}

#[test]
fn kept_blocks_are_as_many_as_asked_and_evenly_spread() {
    let runtime = runtime();
    let layout = Layout::new(16, 32, 4, 4).unwrap();
    let mut tiles = Tiles::<u64>::zeroed(&runtime, layout, Secrecy::Public);
    for asked in [0, 1, 5, 16, 31, 32, 33, usize::MAX] {
        tiles.keep(asked);
        let kept: Vec<usize> = (0..32).filter(|order| tiles.is_kept(*order)).collect();
        assert_eq!(kept.len(), asked.min(32));
        for half in [0..16_usize, 16..32] {
            let in_half = kept.iter().filter(|order| half.contains(*order)).count();
            assert!(in_half.abs_diff(asked.min(32) / 2) <= 1, "{asked}: {kept:?}");
        }
    }
}

#[test]
fn wrong_calls_and_taken_blocks_are_errors() {
    let runtime = runtime();
    for (r, c, h, w) in [(0, 4, 1, 1), (4, 4, 3, 1), (4, 4, 1, 0), (usize::MAX, 2, 1, 1)] {
        assert!(matches!(Layout::new(r, c, h, w), Err(LayoutError { .. })));
    }
    let layout = Layout::new(4, 6, 2, 3).unwrap();
    let mut tiles = filled(&runtime, layout, Secrecy::Public);
    let mut scratch = vec![0; 12];
    let error = tiles.load_rows(2, &mut scratch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "row stripe 2 is outside the vector, which ends at 2; stay below that"
    );
    assert!(matches!(tiles.take_columns(2, &mut scratch), Err(TilesError::Outside { .. })));
    let error = tiles.load_columns(0, &mut scratch[1..]).unwrap_err();
    assert!(matches!(error, TilesError::ScratchLength { expected: 12, found: 11 }));
    assert!(matches!(tiles.read_range(24, &mut [0]), Err(TilesError::Outside { .. })));
    assert!(matches!(tiles.write_range(usize::MAX, &[0]), Err(TilesError::Outside { .. })));
    tiles.take_columns(1, &mut scratch).unwrap();
    assert!(matches!(tiles.load_rows(0, &mut scratch), Err(TilesError::Taken { block: 1 })));
    assert!(matches!(tiles.read_range(0, &mut [0; 4]), Err(TilesError::Taken { block: 1 })));
    assert!(matches!(tiles.write_range(3, &[0]), Err(TilesError::Taken { block: 1 })));
    assert!(matches!(tiles.take_columns(1, &mut scratch), Err(TilesError::Taken { .. })));
    tiles.load_columns(0, &mut scratch).unwrap();
    let lost = tiles.detach();
    assert!(matches!(tiles.load_columns(0, &mut scratch), Err(TilesError::Taken { .. })));
    lost.load_columns(0, &mut scratch).unwrap();
    assert_eq!(
        format!("{lost:?}"),
        "Tiles { layout: Layout { rows: 4, columns: 6, block_rows: 2, block_columns: 3 }, .. }"
    );
}
