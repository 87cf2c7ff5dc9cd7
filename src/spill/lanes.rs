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

/// Elements of any field of four limbs that ark-ff keeps in Montgomery form.
#[cfg(feature = "ark")]
impl<C: ark_ff::MontConfig<4>> Lanes for ark_ff::Fp<ark_ff::MontBackend<C, 4>, 4> {
    fn lanes() -> LaneSpec {
        use plimsoll_swap::codec::field::FieldSpec;
        // A modulus past 2^255 is not packed as a field; it is still stored exactly.
        FieldSpec::new(C::MODULUS.0).map_or(LaneSpec::Bytes, LaneSpec::Field256)
    }
}

/// Elements of any field of one limb that ark-ff keeps in Montgomery form: stored exactly, and
/// packed only where that form itself is small or repeats.
#[cfg(feature = "ark")]
impl<C: ark_ff::MontConfig<1>> Lanes for ark_ff::Fp<ark_ff::MontBackend<C, 1>, 1> {
    fn lanes() -> LaneSpec {
        LaneSpec::U64
    }
}
