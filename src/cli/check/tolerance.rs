//! How much a peak may rise before it is a regression.
//!
//! ```text
//!   allowed = baseline + max(baseline * part, least_bytes)
//!
//!             part   least    why
//!   stages     1 %   64 KiB   exact, but threads may overlap otherwise: one block of one thread
//!   rss        5 %    2 MiB   pages of libraries and stacks, huge pages: what runs differ by
//!   cgroup    10 %    8 MiB   the page cache is in it
//! ```
//!
//! `--tolerance rss=8%`, `stages=0`, `cgroup=64MiB`, `rss=off`, and for one stage `stage:msm A=3%`
//! take the place of both columns. What was given with `--bless` is kept in the baseline.
//!
//! Invariant: `allowed >= baseline`. Must never: let a stage's rise pass for another's sake.

use plimsoll::limit::{format_bytes, parse_bytes};
use std::collections::BTreeMap;

/// Parts of which a tolerance is a whole number.
const MILLION: u128 = 1_000_000;

/// How much a peak may rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// By the larger of a part in a million and a size.
    Within { millionths: u32, least_bytes: u64 },
    /// It is shown and not compared.
    Off,
}

impl Tolerance {
    const STAGES: Self = Self::Within { millionths: 10_000, least_bytes: 64 << 10 };
    const RSS: Self = Self::Within { millionths: 50_000, least_bytes: 2 << 20 };
    const CGROUP: Self = Self::Within { millionths: 100_000, least_bytes: 8 << 20 };

    /// Bytes by which a peak of `baseline` may rise; `None`: by any.
    fn room_bytes(self, baseline: u64) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::Within { millionths, least_bytes } => {
                let part = u128::from(baseline) * u128::from(millionths) / MILLION;
                Some(u64::try_from(part).unwrap_or(u64::MAX).max(least_bytes))
            }
        }
    }

    /// The most that is no regression; `None`: anything.
    pub(super) fn allowed_bytes(self, baseline: u64) -> Option<u64> {
        self.room_bytes(baseline).map(|room| baseline.saturating_add(room))
    }

    /// Whether `now` is lower by more than runs differ.
    pub(super) fn improved(self, baseline: u64, now: u64) -> bool {
        self.room_bytes(baseline).is_some_and(|room| now < baseline.saturating_sub(room))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no tolerance; write a percentage (3%), a size (64MiB), 0 or off")
        };
        if text == "off" {
            return Ok(Self::Off);
        }
        if text == "0" {
            return Ok(Self::Within { millionths: 0, least_bytes: 0 });
        }
        let Some(percent) = text.strip_suffix('%') else {
            let least_bytes = parse_bytes(text).map_err(|_| wrong())?;
            return Ok(Self::Within { millionths: 0, least_bytes });
        };
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1000.0).contains(&percent) {
            return Err(wrong());
        }
        Ok(Self::Within { millionths: (percent * 10_000.0).round() as u32, least_bytes: 0 })
    }
}

/// One `WHAT=HOW MUCH` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    what: String,
    text: String,
}

/// Understands `rss=5%` and its kin; what clap calls.
pub(super) fn parse_setting(text: &str) -> Result<Setting, String> {
    // A stage's name may hold an equals sign; how much never does.
    let Some((what, how_much)) = text.rsplit_once('=') else {
        return Err("write WHAT=HOW MUCH, such as rss=5% or stage:quotient=1MiB".to_owned());
    };
    check(what, how_much)?;
    Ok(Setting { what: what.to_owned(), text: how_much.to_owned() })
}

fn check(what: &str, how_much: &str) -> Result<Tolerance, String> {
    let known = ["stages", "rss", "cgroup"].contains(&what);
    if !known && what.strip_prefix("stage:").is_none_or(str::is_empty) {
        return Err(format!("{what:?}: there are stages, stage:NAME, rss and cgroup"));
    }
    Tolerance::parse(how_much)
}

/// All tolerances of a run, as they are written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Tolerances {
    settings: BTreeMap<String, String>,
}

impl Tolerances {
    /// Those of a baseline, under those of the command line.
    ///
    /// # Errors
    ///
    /// In words, when the baseline's are not understood.
    pub(super) fn of(
        baseline: &BTreeMap<String, String>,
        given: &[Setting],
    ) -> Result<Self, String> {
        for (what, how_much) in baseline {
            check(what, how_much)?;
        }
        let mut settings = baseline.clone();
        let given = given.iter().map(|setting| (setting.what.clone(), setting.text.clone()));
        settings.extend(given);
        Ok(Self { settings })
    }

    /// As they are kept in a baseline.
    pub(super) fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    fn setting(&self, what: &str) -> Option<Tolerance> {
        // Checked when it was taken in.
        self.settings.get(what).and_then(|text| Tolerance::parse(text).ok())
    }

    pub(super) fn rss(&self) -> Tolerance {
        self.setting("rss").unwrap_or(Tolerance::RSS)
    }

    pub(super) fn cgroup(&self) -> Tolerance {
        self.setting("cgroup").unwrap_or(Tolerance::CGROUP)
    }

    /// Of stages without one of their own, and of what pools hold.
    pub(super) fn stages(&self) -> Tolerance {
        self.setting("stages").unwrap_or(Tolerance::STAGES)
    }

    pub(super) fn stage(&self, name: &str) -> Tolerance {
        self.setting(&format!("stage:{name}")).unwrap_or_else(|| self.stages())
    }
}

/// A rise in words: `+1.50 MiB (+12.3 %)`.
pub(super) fn rise(baseline: u64, now: u64) -> String {
    let (sign, bytes) = if now >= baseline { ('+', now - baseline) } else { ('-', baseline - now) };
    let percent = bytes as f64 * 100.0 / baseline.max(1) as f64;
    format!("{sign}{} ({sign}{percent:.1} %)", format_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_part_and_size_is_allowed() {
        let tolerances = Tolerances::default();
        let stage = tolerances.stage("any");
        assert_eq!(stage.allowed_bytes(100 << 20), Some((100 << 20) + (1 << 20)));
        assert_eq!(stage.allowed_bytes(1 << 20), Some((1 << 20) + (64 << 10)));
        assert_eq!(stage.allowed_bytes(u64::MAX), Some(u64::MAX));
        assert!(tolerances.rss().improved(100 << 20, 94 << 20));
        assert!(!tolerances.rss().improved(100 << 20, 96 << 20));
    }

    #[test]
    fn the_command_line_is_over_the_baseline_and_a_stage_over_all_stages() {
        let kept = BTreeMap::from([("rss".to_owned(), "off".to_owned())]);
        let given = ["stages=0", "stage:a=b=50%", "rss=1MiB"].map(parse_setting);
        let given: Vec<Setting> = given.into_iter().map(|s| s.expect("a setting")).collect();
        let tolerances = Tolerances::of(&kept, &given).expect("understood");
        assert_eq!(tolerances.rss().allowed_bytes(1), Some((1 << 20) + 1));
        assert_eq!(tolerances.stage("x").allowed_bytes(1000), Some(1000));
        assert_eq!(tolerances.stage("a=b").allowed_bytes(1000), Some(1500));
        assert_eq!(tolerances.cgroup(), Tolerance::CGROUP);
        assert_eq!(Tolerances::of(&kept, &[]).expect("understood").rss().allowed_bytes(9), None);
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["rss", "heap=1%", "stage:=1%", "rss=-1%", "rss=nan%", "rss=", "rss=1XiB"] {
            assert!(parse_setting(text).is_err(), "{text}");
        }
        let kept = BTreeMap::from([("rss".to_owned(), "much".to_owned())]);
        assert!(Tolerances::of(&kept, &[]).expect_err("no tolerance").contains("much"));
    }
}
