//! The limit of an account: who sets it, and who hears that it has changed.

use super::{Account, Pressure};
use crate::process::allowance::{Allowance, Resolved};
use crate::process::limit::{Source, tell_lowered};
use crate::process::words::LimitSpec;
use crate::sync::unpoisoned;
use std::sync::Weak;

impl Account {
    /// Returns what was asked for, and by whom.
    #[must_use]
    pub fn asked(&self) -> (LimitSpec, Source) {
        (self.limit.asked(), self.limit.source())
    }

    /// Takes over the limit that `PLIMSOLL_LIMIT` asks for, unless somebody has set one or looked
    /// at it already. A value that is not understood is reported on standard error.
    pub fn read_environment(&self) {
        if self.kernel.as_ref().is_some_and(|kernel| kernel.follows) {
            self.limit.read_environment();
        }
    }

    /// Sets the limit in bytes (`usize::MAX` for none) and returns the old one. The process's own
    /// account takes no more than its cgroup and the machine allow, and says so where it is less.
    /// It gives nothing back by itself: [`Account::tell_changed`].
    pub fn set_limit(&self, bytes: usize, source: Source) -> usize {
        let follows = self.kernel.as_ref().is_some_and(|kernel| kernel.follows);
        if !follows || bytes == usize::MAX {
            return self.limit.set_exactly(bytes, source);
        }
        let spec = LimitSpec::Bytes(bytes as u64);
        let (old, resolved) = self.limit.set(spec, source);
        tell_lowered("the program", spec, resolved);
        old
    }

    /// Sets the limit, resolved under `allowance`, and returns what it came to. It frees nothing by
    /// itself: see [`Account::tell_changed`].
    pub fn set_spec(
        &self,
        spec: LimitSpec,
        allowance: &Allowance,
        source: Source,
    ) -> Option<Resolved> {
        self.limit.set_under(spec, allowance, source).1
    }

    /// Connects what gives memory back when the limit is lowered. It leaves by being dropped.
    /// Allocates.
    pub fn register(&self, pressure: Weak<dyn Pressure>) {
        let mut pressures = unpoisoned(self.pressures.lock());
        pressures.retain(|known| known.strong_count() > 0);
        pressures.push(pressure);
    }

    /// Tells everybody who is connected that the limit has changed. It takes a lock, though not
    /// while it tells, and is never called from inside an allocation.
    pub fn tell_changed(&self) {
        // One that comes or goes meanwhile may be told twice, or sees the limit by itself.
        let connected = |at: usize| {
            let pressures = unpoisoned(self.pressures.lock());
            (at < pressures.len()).then(|| pressures[at].upgrade())
        };
        for last in [false, true] {
            let told = (0..).map_while(connected).flatten();
            for pressure in told.filter(|pressure| pressure.is_last() == last) {
                self.look();
                pressure.limit_changed(self.excess_bytes());
            }
        }
        self.look();
    }
}
