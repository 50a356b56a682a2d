//! How fast this machine is now, against the one on which times were taken: what safety nets and reference times are
//! scaled by.

use std::{
    collections::VecDeque,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cdc_model::units::Speed;

/// The cores of [`cdc_model::units::REFERENCE_MACHINE`].
const REFERENCE_CORES: f64 = 2.0;
/// What one unit of work takes there while every core does one: 1.08 ms in the median of 80 measurements of ten units.
const REFERENCE_UNIT: Duration = Duration::from_micros(1_100);
/// A unit compresses this much text.
const UNIT_BYTES: usize = 256 << 10;
/// How long each core is measured at the start: several scheduling periods, so that a quota or a neighbour shows.
const MEASURED_FOR: Duration = Duration::from_millis(150);
/// How often a machine that seems slow is measured, at most: what else begins at the same moment may hold it up for a moment, and
/// the first measure counts as long as the process runs.
const MEASURED_TIMES: usize = 4;
/// Between two of these measures.
const MEASURED_EVERY: Duration = Duration::from_millis(250);
/// A machine that is slower than this may be held up.
const SEEMS_SLOW: f64 = 1.5;
/// How long one look while something runs works; longer than what a scheduler grants to a task that slept.
const GLANCE_FOR: Duration = Duration::from_millis(20);
/// How often such a look is taken: half a hundredth of a core.
const GLANCE_EVERY: Duration = Duration::from_secs(4);
/// However slow a look was: one that happened to be held up for seconds says little about the next, and clients have limits
/// of their own for what they are told to wait.
pub(crate) const SCALE_MAX: f64 = 30.0;
/// The looks that count: those of the last minute.
const GLANCES: usize = 15;

#[derive(Debug)]
struct Pace {
    start: OnceLock<Speed>,
    glances: Mutex<Glances>,
}

/// What looks showed while something ran.
#[derive(Debug)]
struct Glances {
    last: VecDeque<f64>,
    slowest: Option<f64>,
}

static PACE: Pace =
    Pace { start: OnceLock::new(), glances: Mutex::new(Glances { last: VecDeque::new(), slowest: None }) };

/// The machine's speed when it was first asked for, which measures it: 0.2 s with every core busy, a second where it seems slow.
pub fn speed() -> Speed {
    *PACE.start.get_or_init(|| {
        best_of(MEASURED_TIMES, || {
            let speed = measure();
            if speed.scale() > SEEMS_SLOW {
                pause(MEASURED_EVERY);
            }
            speed
        })
    })
}

/// The fastest of several measures, no more than are needed to find the machine fast enough.
fn best_of(times: usize, mut measure: impl FnMut() -> Speed) -> Speed {
    let mut best = measure();
    for _ in 1..times {
        if best.scale() <= SEEMS_SLOW {
            break;
        }
        let again = measure();
        if again.scale() < best.scale() {
            best = again;
        }
    }
    best
}

/// The factor by which safety nets are stretched now: that of the start, or of the slowest look of the last minute. 1 in a
/// process that has not been measured, as the small ones beside each server.
pub fn scale() -> f64 {
    let glances = PACE.glances.lock().unwrap_or_else(PoisonError::into_inner);
    glances.last.iter().copied().fold(PACE.start.get().map_or(1.0, Speed::scale), f64::max).min(SCALE_MAX)
}

/// The slowest look since [`watch`], as a multiple of the reference machine's time; `None` before the first.
pub fn slowest_seen() -> Option<f64> {
    PACE.glances.lock().unwrap_or_else(PoisonError::into_inner).slowest
}

/// Measures the machine and goes on looking how fast it is until the process ends. Further calls do nothing.
pub fn watch() -> Speed {
    static WATCHING: OnceLock<()> = OnceLock::new();
    let speed = speed();
    WATCHING.get_or_init(|| {
        // A thread of its own: what delays the runtime must not delay the measure of it.
        let glance = || {
            let text = text();
            loop {
                pause(GLANCE_EVERY);
                let slowness = work(&text, GLANCE_FOR).as_secs_f64() / REFERENCE_UNIT.as_secs_f64();
                let mut glances = PACE.glances.lock().unwrap_or_else(PoisonError::into_inner);
                if glances.last.len() == GLANCES {
                    glances.last.pop_front();
                }
                glances.last.push_back(slowness);
                glances.slowest = Some(glances.slowest.map_or(slowness, |worst| worst.max(slowness)));
            }
        };
        if let Err(error) = thread::Builder::new().name("pace".into()).spawn(glance) {
            tracing::warn!(%error, "the machine's speed is not looked at again");
        }
    });
    speed
}

#[allow(clippy::disallowed_methods, reason = "paces looks and measures; nothing waits for it")]
fn pause(time: Duration) {
    thread::sleep(time);
}

fn measure() -> Speed {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = text();
    let units = thread::scope(|scope| {
        let measured: Vec<_> = (0..cores).map(|_| scope.spawn(|| work(&text, MEASURED_FOR))).collect();
        measured.into_iter().filter_map(|m| m.join().ok()).map(|unit| unit.as_secs_f64()).collect::<Vec<f64>>()
    });
    of_units(cores, &units)
}

/// From what a unit took on each core, in seconds.
fn of_units(cores: usize, units: &[f64]) -> Speed {
    let reference = REFERENCE_UNIT.as_secs_f64();
    let mean = units.iter().sum::<f64>() / units.len().max(1) as f64;
    let rate: f64 = units.iter().map(|unit| reference / unit).sum();
    Speed { cores, slowness: mean / reference, capacity: rate / REFERENCE_CORES }
}

/// What one unit of work takes, in a stretch of so long.
fn work(text: &[u8], stretch: Duration) -> Duration {
    let began = Instant::now();
    let mut units = 0;
    while began.elapsed() < stretch {
        // The compressor is optimized in every build of this program.
        std::hint::black_box(zstd::bulk::compress(text, 3).ok());
        units += 1;
    }
    began.elapsed() / units.max(1)
}

/// Text that compresses as rows and records do.
fn text() -> Vec<u8> {
    let mut text = Vec::with_capacity(UNIT_BYTES + 64);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < UNIT_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend_from_slice(format!("{{\"id\":{},\"amount\":{}}},", state % 100_000, state >> 44).as_bytes());
    }
    text.truncate(UNIT_BYTES);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_machine_has_scale_one_and_a_faster_one_no_less() {
        let unit = REFERENCE_UNIT.as_secs_f64();
        assert_eq!(of_units(2, &[unit, unit]), Speed { cores: 2, slowness: 1.0, capacity: 1.0 });
        let fast = of_units(8, &[unit / 2.0; 8]);
        assert_eq!((fast.capacity, fast.scale()), (8.0, 1.0));
    }

    #[test]
    fn few_cores_and_slow_cores_both_stretch_times() {
        let unit = REFERENCE_UNIT.as_secs_f64();
        let scale = |cores: usize, slowness: f64| {
            let scale = of_units(cores, &vec![unit * slowness; cores]).scale();
            (scale * 1000.0).round() / 1000.0
        };
        assert_eq!(scale(1, 1.0), 2.0, "half the cores");
        assert_eq!(scale(2, 3.0), 3.0);
        assert_eq!(scale(1, 2.0), 4.0, "half a core by a quota: one thread that stands still half of the time");
        assert_eq!(scale(16, 2.0), 2.0, "many slow cores: each wait is for one of them");
    }

    #[test]
    fn a_machine_that_is_held_up_for_a_moment_is_not_slow() {
        let measured = |slownesses: &[f64]| {
            let mut all = slownesses.iter().map(|slowness| of_units(2, &[REFERENCE_UNIT.as_secs_f64() * slowness; 2]));
            let best = best_of(MEASURED_TIMES, || all.next().unwrap());
            ((best.scale() * 1000.0).round() / 1000.0, all.count())
        };
        assert_eq!(measured(&[1.0, 9.0]), (1.0, 1), "measured once");
        assert_eq!(measured(&[20.0, 1.2, 9.0]), (1.2, 1));
        assert_eq!(measured(&[20.0, 3.0, 4.0, 5.0]), (3.0, 0), "a slow one is slow each time");
    }

    #[test]
    fn this_machine_is_measured() {
        let speed = speed();
        assert!(speed.cores > 0 && speed.slowness > 0.0 && speed.capacity > 0.0, "{speed:?}");
        assert!(scale() >= 1.0);
    }
}
