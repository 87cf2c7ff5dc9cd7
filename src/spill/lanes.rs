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

#[cfg(all(test, feature = "ark"))]
mod tests {
    use super::*;
    use ark_ff::{Fp64, Fp256, MontBackend, MontConfig};

    /// The base field of secp256k1, whose modulus is past 2^255.
    #[derive(MontConfig)]
    #[modulus = "115792089237316195423570985008687907853269984665640564039457584007908834671663"]
    #[generator = "3"]
    struct Secp256k1;

    #[derive(MontConfig)]
    #[modulus = "18446744069414584321"]
    #[generator = "7"]
    struct Goldilocks;

    /// Vectors of `make` that leave memory and come back.
    fn come_back<T: Lanes + Copy + PartialEq + std::fmt::Debug>(make: impl Fn(u64) -> T) {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let options = crate::spill::SpillOptions::new(folder.path());
        let builder = crate::Runtime::builder().limit_bytes(1 << 30).spill(options);
        let runtime = builder.build().expect("a runtime");
        let values: Vec<T> = (0..1 << 14).map(make).collect();
        let vector = runtime.pool().try_copied(&values).expect("memory");
        let vector = runtime.spillable(vector);
        runtime.set_limit_bytes(1);
        assert!(!vector.is_resident(), "the limit makes it leave");
        runtime.set_limit_bytes(1 << 30);
        assert_eq!(vector.read().expect("it comes back")[..], values[..]);
    }

    #[test]
    fn fields_that_are_not_packed_as_such_come_back_exactly() {
        type Secp = Fp256<MontBackend<Secp256k1, 4>>;
        type Gold = Fp64<MontBackend<Goldilocks, 1>>;
        assert_eq!((Secp::lanes(), Gold::lanes()), (LaneSpec::Bytes, LaneSpec::U64));
        come_back(|index| Secp::from(index * index) / Secp::from(3u64));
        come_back(Secp::from);
        come_back(|index| Gold::from(index * index) / Gold::from(3u64));
        come_back(Gold::from);
    }
}
