//! How many drills run at the same time: as many as the machine has room for.

use cdc_model::units::Speed;

/// On the reference machine more would only take turns, and all servers together stay below 2 GiB with so many.
pub(crate) const JOBS_MAX: usize = 6;
/// How many drills keep the whole reference machine busy. One works for a quarter of a core there, and waits for the rest:
/// for an archiver, a checkpoint, a flush.
const JOBS_OF_REFERENCE: f64 = 8.0;
/// What the shared servers and the harness take, measured as PSS.
const SHARED_BYTES: u64 = 1_300 << 20;
/// What each drill takes beside them, on average; those that take more do not run at the same time.
const DRILL_BYTES: u64 = 150 << 20;

/// A number of drills, and what it is limited by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many at the same time.
    pub jobs: usize,
    /// Why not [`JOBS_MAX`]; empty where nothing is in the way.
    pub limited_by: String,
}

impl Room {
    /// What a person asked for.
    pub(crate) fn asked(jobs: usize) -> Room {
        Room { jobs: jobs.max(1), limited_by: "--jobs".to_owned() }
    }

    /// One after the other: each drill has servers of its own.
    pub(crate) fn isolated() -> Room {
        Room { jobs: 1, limited_by: "--isolated".to_owned() }
    }

    /// What a machine of this speed and so much free memory, in bytes, has room for.
    pub(crate) fn of(speed: &Speed, free: Option<u64>) -> Room {
        let by_speed = ((speed.capacity * JOBS_OF_REFERENCE) as usize).clamp(1, JOBS_MAX);
        let by_memory = free.map_or(JOBS_MAX, |free| {
            (free.saturating_sub(SHARED_BYTES) / DRILL_BYTES).clamp(1, JOBS_MAX as u64) as usize
        });
        let jobs = by_speed.min(by_memory);
        let limited_by = match (jobs < JOBS_MAX, by_memory < by_speed) {
            (false, _) => String::new(),
            (true, true) => format!("{} MiB of memory are free", free.unwrap_or_default() >> 20),
            (true, false) => format!("the machine does {:.2} of the reference machine's work", speed.capacity),
        };
        Room { jobs, limited_by }
    }
}

/// How much memory may still be used, in bytes: what the kernel says is available, and no more than is left of a cgroup's
/// limit; none where neither says.
pub(crate) fn free_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let available = read("/proc/meminfo").and_then(|text| available(&text));
    // Version 2, and version 1 as containers see their own.
    let limits = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    let left = limits.iter().filter_map(|(max, now)| Some(number(max)?.saturating_sub(number(now)?)));
    available.into_iter().chain(left).min()
}

/// From the text of /proc/meminfo.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(capacity: f64) -> Speed {
        Speed { cores: 2, slowness: 1.0 / capacity, capacity }
    }

    #[test]
    fn a_machine_with_room_runs_six_and_says_nothing() {
        for capacity in [0.75, 1.0, 40.0] {
            assert_eq!(Room::of(&speed(capacity), Some(20 << 30)), Room { jobs: 6, limited_by: String::new() });
        }
        assert_eq!(Room::of(&speed(1.0), None).jobs, 6);
    }

    #[test]
    fn a_slow_or_small_machine_runs_fewer_and_says_why() {
        let slow = Room::of(&speed(0.24), Some(20 << 30));
        assert_eq!(slow.jobs, 1);
        assert!(slow.limited_by.contains("0.24"), "{slow:?}");
        assert_eq!(Room::of(&speed(0.5), Some(20 << 30)).jobs, 4);
        let small = Room::of(&speed(1.0), Some(1_700 << 20));
        assert_eq!(small.jobs, 2);
        assert!(small.limited_by.contains("1700 MiB"), "{small:?}");
        assert_eq!(Room::of(&speed(0.01), Some(0)).jobs, 1);
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available("MemTotal: 10 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 10 kB\n"), None);
        assert!(free_memory().is_some_and(|bytes| bytes > 0));
    }
}
