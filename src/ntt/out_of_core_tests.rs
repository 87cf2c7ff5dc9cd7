//! Out of core equals ark-poly, over a grid of sizes, splits and offsets; failures are typed.

use super::plan::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};
use super::tests::Random;
use super::{
    Form, Leave, Moved, NttError, OutOfCore, OutOfCoreError, Passes, Plan, PlanError, Ranks,
    Transform, Visit,
};
use crate::spill::SpillOptions;
use crate::tiles::{Layout, Tiles, TilesError};
use crate::{Runtime, Secrecy};
use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, FftField, Field};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

const ELEMENT: usize = size_of::<Fr>();

fn runtime() -> Runtime {
    Runtime::builder().own_limit().build().unwrap()
}

fn out_of_core(runtime: &Runtime, layout: Layout) -> OutOfCore<Fr> {
    let plan = Plan::for_layout(layout, ELEMENT, 1, usize::MAX / 2).unwrap();
    OutOfCore::new(runtime, plan).unwrap()
}

fn filled(transform: &OutOfCore<Fr>, secrecy: Secrecy, values: &[Fr]) -> Tiles<Fr> {
    let mut tiles = transform.vector(secrecy);
    tiles.write_range(0, values).unwrap();
    tiles
}

fn whole(tiles: &Tiles<Fr>) -> Vec<Fr> {
    let mut values = vec![Fr::ZERO; tiles.len()];
    tiles.read_range(0, &mut values).unwrap();
    values
}

/// Splits of `2^log_n`: square, flat and tall, with blocks of one element, of everything, and odd
/// ones in between.
fn splits(log_n: u32) -> Vec<Layout> {
    let mut layouts = Vec::new();
    for rows_log in [log_n / 2, log_n.div_ceil(2), 1, log_n - 1, log_n.min(4)] {
        let columns_log = log_n - rows_log;
        for (h, w) in [(0, 0), (rows_log, columns_log), (rows_log / 2, 1), (1, columns_log / 3)] {
            let block = (1 << h.min(rows_log), 1 << w.min(columns_log));
            let layout = Layout::new(1 << rows_log, 1 << columns_log, block.0, block.1).unwrap();
            if layout.blocks() <= 1 << 10 && !layouts.contains(&layout) {
                layouts.push(layout);
            }
        }
    }
    layouts
}

fn equals_ark_poly(log_n: u32, layout: Layout, random: &mut Random) {
    let runtime = runtime();
    let transform = out_of_core(&runtime, layout);
    let domain = Radix2EvaluationDomain::<Fr>::new(1 << log_n).unwrap();
    let values = random.elements::<Fr>(1 << log_n);
    for offset in [Fr::ONE, Fr::GENERATOR, random.element()] {
        let coset = domain.get_coset(offset).unwrap();
        let check = |form: Form<Fr>, expected: Vec<Fr>| {
            let mut tiles = filled(&transform, Secrecy::Secret, &values);
            transform.transform(&mut tiles, form).unwrap();
            assert!(whole(&tiles) == expected, "{form:?} of {layout}");
        };
        check(Form::Forward(offset), coset.fft(&values));
        check(Form::Inverse(offset), coset.ifft(&values));
        check(Form::Shift(offset), coset.fft(&domain.ifft(&values)));
    }
    // There and back through the transposed layout.
    let mut tiles = filled(&transform, Secrecy::Public, &values);
    transform.fft(&mut tiles).unwrap();
    assert_eq!(tiles.layout(), layout.transposed());
    transform.shift_to_coset(&mut tiles, Fr::GENERATOR).unwrap();
    transform.coset_ifft(&mut tiles, Fr::GENERATOR).unwrap();
    assert!(whole(&tiles) == values, "{layout}");
}

#[test]
fn all_forms_and_splits_equal_ark_poly() {
    let mut random = Random::from_env();
    for log_n in 1..=12 {
        for layout in splits(log_n) {
            equals_ark_poly(log_n, layout, &mut random);
        }
    }
    for log_n in 13..=16 {
        let plan = Plan::new(log_n, ELEMENT, 1 << 20).unwrap();
        equals_ark_poly(log_n, plan.layout(), &mut random);
    }
}

#[test]
fn a_fused_quotient_equals_the_steps() {
    let mut random = Random::from_env();
    let runtime = runtime();
    let layout = Layout::new(64, 32, 8, 4).unwrap();
    let transform = out_of_core(&runtime, layout);
    let n = layout.len();
    let domain = Radix2EvaluationDomain::<Fr>::new(n).unwrap();
    let g = Fr::GENERATOR;
    let coset = domain.get_coset(g).unwrap();
    let [mut a, mut b] = [(); 2].map(|()| random.elements::<Fr>(n));
    let [first, second] = [&a, &b].map(|values| filled(&transform, Secrecy::Secret, values));
    let product = transform.vector(Secrecy::Secret);
    let [first, second, product] = fused(&transform, [first, second, product], g).unwrap();
    let mut c: Vec<Fr> = a.iter().zip(&b).map(|(a, b)| *a * b).collect();
    for values in [&mut a, &mut b, &mut c] {
        *values = coset.fft(&domain.ifft(values));
    }
    let quotient: Vec<Fr> = (0..n).map(|i| a[i] * b[i] - c[i]).collect();
    assert!(whole(&first) == coset.ifft(&quotient));
    for lost in [second, product] {
        let error = lost.read_range(0, &mut [Fr::ZERO]).unwrap_err();
        assert!(matches!(error, TilesError::Taken { block: 0 }));
    }
    let bytes = (n * ELEMENT) as u64;
    // a, b and c: in three passes; a goes on; c is made, and b and c end, without a walk.
    let moved = Moved { read_bytes: bytes * 9, written_bytes: bytes * 8 };
    assert_eq!(transform.moved(), moved);
}

/// `c = a o b`, all three to the coset, `a o b - c` back to coefficients: four visits of `a`.
fn fused(
    transform: &OutOfCore<Fr>,
    vectors: [Tiles<Fr>; 3],
    g: Fr,
) -> Result<[Tiles<Fr>; 3], OutOfCoreError> {
    let shift = Leave::Toward(Form::Shift(g));
    let visits = vectors.map(|tiles| Visit::new(tiles, shift));
    let [a, b, c] = transform.visit_columns(visits, |_, [a, b, c]| {
        for i in 0..c.len() {
            c[i] = a[i] * b[i];
        }
        Ok::<(), OutOfCoreError>(())
    })?;
    // The rows of `b` are done here, those of the others when the visit begins.
    let visits = [
        Visit::new(a, Leave::Toward(Form::Inverse(g))),
        Visit::new(b.rows(transform)?, Leave::Dropped),
        Visit::new(c, Leave::Dropped),
    ];
    let [a, b, c] = transform.visit_columns(visits, |_, [a, b, c]| {
        for i in 0..a.len() {
            a[i] = a[i] * b[i] - c[i];
        }
        Ok::<(), OutOfCoreError>(())
    })?;
    Ok([a.finish(transform)?, b.finish(transform)?, c.finish(transform)?])
}

#[test]
fn a_visit_sees_natural_order_and_its_error_loses_the_vectors() {
    let runtime = runtime();
    let layout = Layout::new(8, 16, 2, 4).unwrap();
    let transform = out_of_core(&runtime, layout);
    let values: Vec<Fr> = (0..128_u64).map(Fr::from).collect();
    let tiles = filled(&transform, Secrecy::Public, &values);
    let visit = Visit::new(tiles, Leave::Stored);
    let seen = transform.visit_columns([visit], |stripe, [slice]| {
        for (i, value) in slice.iter_mut().enumerate() {
            let column = stripe * layout.block_columns() + i / layout.rows();
            let entry = i % layout.rows() * layout.columns() + column;
            assert_eq!(*value, Fr::from(entry as u64));
            *value += Fr::ONE;
        }
        Ok::<(), OutOfCoreError>(())
    });
    let [seen] = seen.unwrap();
    let tiles = seen.finish(&transform).unwrap();
    assert_eq!(whole(&tiles)[127], Fr::from(128));
    let stop = |stripe: usize, _: [&mut [Fr]; 1]| match stripe {
        2 => Err(OutOfCoreError::Ntt(NttError::ZeroOffset)),
        _ => Ok(()),
    };
    transform.visit_columns([Visit::new(tiles, Leave::Stored)], stop).unwrap_err();
    let none: [Visit<Fr>; 0] = [];
    transform.visit_columns(none, |_, _| Ok::<(), OutOfCoreError>(())).unwrap();
}

#[test]
fn a_vector_that_is_used_up_or_lost_is_not_read() {
    let runtime = runtime();
    let layout = Layout::new(8, 16, 2, 4).unwrap();
    let transform = out_of_core(&runtime, layout);
    let is_lost = |tiles: &Tiles<Fr>| {
        let error = tiles.read_range(0, &mut [Fr::ZERO]).unwrap_err();
        assert!(matches!(error, TilesError::Taken { block: 0 }));
    };
    // Written or not: what is dropped is gone.
    let written = filled(&transform, Secrecy::Public, &[Fr::ONE; 128]);
    for tiles in [written, transform.vector(Secrecy::Public)] {
        let dropped = [Visit::new(tiles, Leave::Dropped)];
        let left = transform.visit_columns(dropped, |_, _| Ok::<(), OutOfCoreError>(()));
        let [left] = left.unwrap();
        is_lost(&left.finish(&transform).unwrap());
    }
    let mut tiles = filled(&transform, Secrecy::Public, &[Fr::ONE; 128]);
    tiles.take_columns(1, &mut [Fr::ZERO; 32]).unwrap();
    assert!(transform.fft(&mut tiles).is_err(), "a block is missing");
    is_lost(&tiles);
}

#[test]
fn what_was_begun_finishes_as_it_was_begun() {
    let mut random = Random::from_env();
    let runtime = runtime();
    let layout = Layout::new(16, 8, 4, 2).unwrap();
    let transform = out_of_core(&runtime, layout);
    let values = random.elements::<Fr>(layout.len());
    let offset = random.element();
    for form in [Form::Forward(offset), Form::Inverse(offset), Form::Shift(offset)] {
        let mut expected = filled(&transform, Secrecy::Public, &values);
        transform.transform(&mut expected, form).unwrap();
        let begun = || transform.begin(filled(&transform, Secrecy::Public, &values), form).unwrap();
        let at_once = begun().finish(&transform).unwrap();
        let in_steps = begun().rows(&transform).unwrap().rows(&transform).unwrap();
        let in_steps = in_steps.finish(&transform).unwrap();
        // A visit goes on with what is left.
        let visit = Visit::new(begun(), Leave::Stored);
        let visited = transform.visit_columns([visit], |_, _| Ok::<(), OutOfCoreError>(()));
        let [visited] = visited.unwrap();
        for found in [at_once, in_steps, visited.finish(&transform).unwrap()] {
            assert_eq!(found.layout(), expected.layout(), "{form:?}");
            assert!(whole(&found) == whole(&expected), "{form:?}");
        }
    }
}

#[test]
fn blocks_that_leave_in_mid_pass_change_no_value() {
    let mut random = Random::from_env();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let options = SpillOptions::new(folder.path());
    let runtime = Runtime::builder().own_limit().spill(options).build().unwrap();
    // Blocks of 64 KiB: smaller ones never leave.
    let transform = out_of_core(&runtime, Layout::new(256, 128, 64, 32).unwrap());
    let domain = Radix2EvaluationDomain::<Fr>::new(1 << 15).unwrap();
    let values = random.elements::<Fr>(1 << 15);
    let mut tiles = filled(&transform, Secrecy::Secret, &values);
    tiles.keep(5);
    let (g, shift) = (Fr::GENERATOR, Form::Shift(Fr::GENERATOR));
    let leave = |_: usize, _: [&mut [Fr]; 1]| {
        runtime.reclaim_all();
        Ok::<(), OutOfCoreError>(())
    };
    runtime.reclaim_all();
    assert_eq!(runtime.spill_stats().resident_bytes, 0);
    let visit = Visit::new(tiles, Leave::Toward(shift));
    let [begun] = transform.visit_columns([visit], leave).unwrap();
    runtime.reclaim_all();
    let visit = Visit::new(begun.rows(&transform).unwrap(), Leave::Stored);
    let [shifted] = transform.visit_columns([visit], leave).unwrap();
    let mut tiles = shifted.finish(&transform).unwrap();
    let expected = domain.get_coset(g).unwrap().fft(&domain.ifft(&values));
    assert!(whole(&tiles) == expected);
    runtime.reclaim_all();
    transform.coset_ifft(&mut tiles, g).unwrap();
    assert!(whole(&tiles) == domain.ifft(&values));
    assert!(runtime.spill_stats().loaded_total >= 3 << 20, "all came back three times");
}

#[test]
fn without_memory_for_a_stripe_the_vector_is_as_it_was() {
    let runtime = Runtime::builder().own_limit().limit_bytes(u64::MAX / 4).build().unwrap();
    let transform = out_of_core(&runtime, Layout::new(64, 64, 32, 32).unwrap());
    let values: Vec<Fr> = (0..1 << 12_u64).map(Fr::from).collect();
    let mut tiles = filled(&transform, Secrecy::Public, &values);
    runtime.reclaim_all();
    let old = runtime.set_limit_bytes(Some(1));
    let error = transform.shift_to_coset(&mut tiles, Fr::GENERATOR).unwrap_err();
    assert!(matches!(error, OutOfCoreError::Runtime(crate::Error::OverLimit { .. })), "{error}");
    runtime.set_limit_bytes(old);
    assert!(whole(&tiles) == values);
}

#[test]
fn wrong_calls_are_errors_that_leave_the_vector() {
    let runtime = runtime();
    let layout = Layout::new(8, 16, 2, 4).unwrap();
    let transform = out_of_core(&runtime, layout);
    let values: Vec<Fr> = (0..128_u64).map(Fr::from).collect();
    let mut tiles = filled(&transform, Secrecy::Public, &values);
    for form in [Form::Forward(Fr::ZERO), Form::Inverse(Fr::ZERO), Form::Shift(Fr::ZERO)] {
        let error = transform.transform(&mut tiles, form).unwrap_err();
        assert!(matches!(error, OutOfCoreError::Ntt(NttError::ZeroOffset)));
    }
    let other = out_of_core(&runtime, Layout::new(8, 16, 2, 8).unwrap());
    assert!(matches!(other.fft(&mut tiles), Err(OutOfCoreError::Layout { .. })));
    assert!(whole(&tiles) == values);
    let begun = transform.begin(tiles, Form::Shift(Fr::ONE)).unwrap();
    assert!(matches!(begun.finish(&other), Err(OutOfCoreError::Layout { .. })));
    let square = Layout::new(8, 16, 2, 4).unwrap();
    let pair = [square, square.transposed()];
    let pair = pair
        .map(|layout| Visit::new(Tiles::zeroed(&runtime, layout, Secrecy::Public), Leave::Stored));
    let mixed = transform.visit_columns(pair, |_, _| Ok::<(), OutOfCoreError>(()));
    assert!(matches!(mixed, Err(OutOfCoreError::Layout { .. })));
    let plan = Plan::new(4, 8, 1 << 20).unwrap();
    let error = OutOfCore::<Fr>::new(&runtime, plan).unwrap_err();
    assert!(matches!(error, OutOfCoreError::ElementBytes { planned: 8, found: 32 }));
    let plan = Plan::new(29, ELEMENT, usize::MAX / 2).unwrap();
    assert!(matches!(OutOfCore::<Fr>::new(&runtime, plan), Err(OutOfCoreError::Ntt(_))));
    let shown = format!("{transform:?}");
    assert!(shown.starts_with("OutOfCore { plan: Plan { layout: Layout { rows: 8"), "{shown}");
}

#[test]
fn plans_keep_to_the_budget_and_name_the_smallest() {
    for element_bytes in [1, 8, 32, 48] {
        for log_n in 0..=28 {
            for vectors in [1, 3] {
                let Err(PlanError::Budget { smallest_bytes, .. }) =
                    Plan::for_vectors(log_n, element_bytes, vectors, 0)
                else {
                    panic!("nothing fits in no bytes");
                };
                let refused = Plan::for_vectors(log_n, element_bytes, vectors, smallest_bytes - 1);
                assert!(refused.is_err(), "2^{log_n} of {element_bytes}");
                let mut block_bytes = 0;
                for times in [1, 2, 4, 16, 1 << 20] {
                    let budget = smallest_bytes * times;
                    let plan = Plan::for_vectors(log_n, element_bytes, vectors, budget).unwrap();
                    check_plan(&plan, log_n);
                    assert!(plan.block_bytes() >= block_bytes, "more budget, larger blocks");
                    block_bytes = plan.block_bytes();
                }
            }
        }
    }
}

fn check_plan(plan: &Plan, log_n: u32) {
    let layout = plan.layout();
    assert_eq!((plan.log_n(), layout.len()), (log_n, 1 << log_n));
    assert!(plan.resident_bytes() <= plan.budget_bytes());
    assert!(plan.smallest_bytes() <= plan.resident_bytes());
    assert_eq!(layout.row_stripe_len(), layout.column_stripe_len());
    let stripe_len = layout.row_stripe_len() as u128;
    assert_eq!(layout.block_len() as u128 * (layout.len() as u128), stripe_len * stripe_len);
    if plan.vector_bytes() >= 16 << 20 {
        assert!((BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&plan.block_bytes()), "{plan}");
        assert!(layout.row_stripes() >= 8 && layout.column_stripes() >= 8, "{plan}");
    }
    let bytes = plan.vector_bytes() as u64;
    let walked = Moved { read_bytes: 3 * bytes, written_bytes: 3 * bytes };
    assert_eq!(plan.walked(Passes::Shift), walked);
    let kept_bytes = (3 * plan.kept_blocks() * plan.block_bytes()) as u64;
    let spilled = plan.spilled(Passes::Shift);
    assert_eq!(spilled.read_bytes + kept_bytes, walked.read_bytes);
    assert_eq!(spilled.written_bytes + kept_bytes, walked.written_bytes);
    assert_eq!(plan.stays_in_memory(), spilled == Moved::default());
}

#[test]
fn a_plan_prints_its_sizes_and_refuses_what_cannot_be() {
    let plan = Plan::new(24, 32, 128 << 20).unwrap();
    let expected = "\
vectors   1 of 2^24, 524288 KiB each
matrix    4096 x 4096 in blocks of 256 x 256
blocks    256 of 2048 KiB
scratch   32768 KiB
tables    64 KiB
resident  129088 KiB of 131072 KiB
transform 2 passes; 987136 KiB read, 987136 KiB written
shift     3 passes; 1480704 KiB read, 1480704 KiB written";
    assert_eq!(plan.to_string(), expected);
    let error = Plan::new(24, 32, 1 << 20).unwrap_err();
    let expected = "a transform of 2^24 elements needs at least 25231360 bytes, the budget is \
                    1048576; raise the budget to that";
    assert_eq!(error.to_string(), expected);
    // The table of docs/ntt.md.
    let smallest = [20, 22, 24, 26, 28].map(|log_n| match Plan::new(log_n, 32, 0) {
        Err(PlanError::Budget { smallest_bytes, .. }) => smallest_bytes >> 10,
        _ => unreachable!("nothing fits in no bytes"),
    });
    assert_eq!(smallest, [6160, 12320, 24640, 49280, 98560]);
    for (log_n, element_bytes, vectors) in [(64, 32, 1), (10, 0, 1), (10, 32, 0), (56, 32, 1)] {
        let error = Plan::for_vectors(log_n, element_bytes, vectors, usize::MAX).unwrap_err();
        assert!(matches!(error, PlanError::Size { .. }));
    }
    assert!(Plan::for_vectors(u32::MAX, usize::MAX, usize::MAX, 0).is_err());
    let layout = Layout::new(3, 4, 1, 1).unwrap();
    let error = Plan::for_layout(layout, 32, 1, 1 << 20).unwrap_err();
    assert_eq!(error, PlanError::Sides { rows: 3, columns: 4 });
    assert!(Plan::for_layout(Layout::new(4, 4, 1, 1).unwrap(), 32, 1, 0).is_err());
}

#[test]
fn plans_of_ranks_cut_as_the_smallest_says_and_refuse_too_many() {
    let whole = usize::MAX / 2;
    for log_n in [6, 12, 20, 26] {
        for count in [1, 2, 3, 4, 8] {
            let ranks = Ranks { count, ..Ranks::ALONE };
            let plan = Plan::for_ranks(log_n, [ELEMENT, 3], ranks, whole).unwrap();
            let layout = plan.layout();
            assert!(layout.row_stripes() >= count && layout.column_stripes() >= count);
            assert!(count == 1 || plan.block_bytes() <= super::plan::MESSAGE_BYTES_MAX);
            // A share is a part, and a stripe more at most.
            let most = plan.vector_bytes() / count + plan.stripe_bytes();
            assert!(plan.share_bytes() <= most, "{log_n} {count}: {plan}");
            let shorter = Ranks { count, stripe_len_max: plan.stripe_len() / 2 };
            let other = Plan::for_ranks(log_n, [ELEMENT, 3], shorter, whole).unwrap();
            assert!(other.stripe_len() <= plan.stripe_len());
            // What another rank's plan chose for want of memory, a rank with more takes, too.
            let Err(PlanError::Budget { smallest_bytes, .. }) =
                Plan::for_ranks(log_n, [ELEMENT, 3], ranks, 0)
            else {
                panic!("nothing fits in nothing")
            };
            let least = Plan::for_ranks(log_n, [ELEMENT, 3], ranks, smallest_bytes).unwrap();
            let agreed = Ranks { count, stripe_len_max: least.stripe_len() };
            let same = Plan::for_ranks(log_n, [ELEMENT, 3], agreed, whole).unwrap();
            assert_eq!(same.layout(), least.layout());
        }
    }
    let many = Ranks { count: 9, ..Ranks::ALONE };
    let refused = Plan::for_ranks(6, [ELEMENT, 3], many, whole);
    assert_eq!(refused, Err(PlanError::Ranks { log_n: 6, ranks: 9, most: 8 }));
}
