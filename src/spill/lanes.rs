//! Which lanes the elements of a vector are: what the codec needs to pack them well.

use plimsoll_arena::Plain;
use plimsoll_swap::codec::LaneSpec;

/// An element type that can be spilled.
pub trait Lanes: Plain {
    /// Says how values of this type are best packed. A wrong answer costs ratio, never a bit.
    fn lanes() -> LaneSpec;
}

macro_rules! lanes {
    ($($t:ty => $spec:expr),* $(,)?) => { $(
        impl Lanes for $t {
            fn lanes() -> LaneSpec {
                $spec
            }
        }
    )* };
}
lanes! {
    u8 => LaneSpec::Bytes,
    u16 => LaneSpec::Bytes,
    u32 => LaneSpec::U32,
    i32 => LaneSpec::U32,
    u64 => LaneSpec::U64,
    i64 => LaneSpec::U64,
    usize => LaneSpec::U64,
    u128 => LaneSpec::Bytes,
}

impl<T: Lanes, const N: usize> Lanes for [T; N] {
    fn lanes() -> LaneSpec {
        T::lanes()
    }
}

/// What arkworks has in plain memory: its fields, and curve points as their coordinates.
#[cfg(feature = "ark")]
mod ark {
    use super::{LaneSpec, Lanes};
    use ark_ec::short_weierstrass::{self as sw, SWCurveConfig};
    use ark_ec::twisted_edwards::{self as te, TECurveConfig};
    use ark_ff::{CubicExtConfig, CubicExtField, QuadExtConfig, QuadExtField};
    use ark_ff::{Fp, MontBackend, MontConfig};
    use plimsoll_swap::codec::field::FieldSpec;

    /// Elements of any prime field in Montgomery form. Those of four limbs are packed by their
    /// values; others, and a modulus past 2^255, are stored exactly, and packed only where that
    /// form itself is small or repeats.
    impl<C: MontConfig<N>, const N: usize> Lanes for Fp<MontBackend<C, N>, N> {
        fn lanes() -> LaneSpec {
            match <[u64; 4]>::try_from(&C::MODULUS.0[..]) {
                Ok(modulus) => FieldSpec::new(modulus).map_or(LaneSpec::Bytes, LaneSpec::Field256),
                Err(_) => LaneSpec::U64,
            }
        }
    }

    macro_rules! coordinates {
        ($([$($generics:tt)*] $t:ty;)*) => { $(
            impl<$($generics)*> Lanes for $t
            where
                P::BaseField: Lanes,
            {
                fn lanes() -> LaneSpec {
                    <P::BaseField as Lanes>::lanes()
                }
            }
        )* };
    }
    // An affine point that marks infinity by a `bool` is not plain; a projective one is.
    coordinates! {
        [P: QuadExtConfig] QuadExtField<P>;
        [P: CubicExtConfig] CubicExtField<P>;
        [P: SWCurveConfig<ZeroFlag = ()>] sw::Affine<P>;
        [P: SWCurveConfig] sw::Projective<P>;
        [P: TECurveConfig] te::Affine<P>;
        [P: TECurveConfig] te::Projective<P>;
    }
}
