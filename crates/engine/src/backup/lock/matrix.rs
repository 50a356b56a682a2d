//! Which activities exclude one another: the table in ARCHITECTURE.md.

/// Something that is done with a repository and the pipeline that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// WAL is archived, taken in from the spool, or fetched.
    Push,
    /// A recovery point is created.
    Create,
    /// A recovery runs.
    Recover,
    /// A recovery point is checked.
    Check,
    /// A recovery point is read for a restore.
    Restore,
    /// A recovery point is proved: restored into a scratch stack, and judged there.
    Prove,
    /// Points or archived WAL are laid out anew.
    Maintain,
}

impl Activity {
    /// The name of the lock that shows this activity to others; none where nothing is refused because of it.
    pub(super) const fn lock_name(self) -> Option<&'static str> {
        match self {
            Activity::Create => Some("backup"),
            Activity::Recover => Some("recovery"),
            Activity::Maintain => Some("maintenance"),
            Activity::Prove => Some("proof"),
            Activity::Push | Activity::Check | Activity::Restore => None,
        }
    }
}

/// What an activity may be refused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// An activity that is going on.
    AtWork(Activity),
    /// A recovery that has begun to change the pipeline and has not ended, whether or not somebody is at work on it.
    Unfinished,
}

/// What refuses an activity that begins.
pub(super) const fn refused_by(begins: Activity) -> &'static [By] {
    match begins {
        // A server whose WAL is not archived fills its disk and stops.
        Activity::Push => &[],
        // In the middle of a recovery topics are empty, connectors stopped and offsets deleted: a point of that would
        // be complete, the newest one, and wrong.
        Activity::Create => &[
            By::AtWork(Activity::Create),
            By::AtWork(Activity::Recover),
            By::Unfinished,
            By::AtWork(Activity::Maintain),
        ],
        // A backup that hangs must not keep a recovery waiting: the backup notices the recovery and gives way. Whether
        // an unfinished recovery is the one that is asked for is known by the engine alone.
        Activity::Recover => &[By::AtWork(Activity::Recover), By::AtWork(Activity::Maintain)],
        // These only read; they would miss what is removed meanwhile.
        Activity::Check | Activity::Restore => &[By::AtWork(Activity::Maintain)],
        // It reads for long, and writes nothing but its evidence: what it reads must not be removed meanwhile.
        Activity::Prove => &[By::AtWork(Activity::Prove), By::AtWork(Activity::Maintain)],
        // Nobody else may read or write points then, and a recovery that is unfinished goes on with the point that it has chosen.
        Activity::Maintain => &[
            By::AtWork(Activity::Create),
            By::AtWork(Activity::Recover),
            By::Unfinished,
            By::AtWork(Activity::Prove),
            By::AtWork(Activity::Maintain),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, Activity); 7] = [
        ("push", Activity::Push),
        ("create", Activity::Create),
        ("recover", Activity::Recover),
        ("check", Activity::Check),
        ("restore", Activity::Restore),
        ("prove", Activity::Prove),
        ("maintain", Activity::Maintain),
    ];

    const TABLE: &str = "\
| begins | push | create | recover | unfinished recovery | check | restore | prove | maintain |
|---|---|---|---|---|---|---|---|---|
| push | yes | yes | yes | yes | yes | yes | yes | yes |
| create | yes | 34 | 34 | 34 | yes | yes | yes | 34 |
| recover | yes | yes | 34 | yes | yes | yes | yes | 34 |
| check | yes | yes | yes | yes | yes | yes | yes | 34 |
| restore | yes | yes | yes | yes | yes | yes | yes | 34 |
| prove | yes | yes | yes | yes | yes | yes | 34 | 34 |
| maintain | yes | 34 | 34 | 34 | yes | yes | 34 | 34 |
";

    fn cells(line: &str) -> Vec<&str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn every_pair_is_as_the_table_says() {
        let mut lines = TABLE.lines();
        let columns = cells(lines.next().unwrap());
        let rows: Vec<Vec<&str>> = lines.skip(1).map(cells).collect();
        assert_eq!(rows.len(), ALL.len());
        let mut walked = 0;
        for ((name, begins), row) in ALL.into_iter().zip(rows) {
            assert_eq!(row[0], name);
            for (column, cell) in columns.iter().zip(&row).skip(1) {
                let by = match ALL.iter().find(|(name, _)| name == column) {
                    Some((_, activity)) => By::AtWork(*activity),
                    None => By::Unfinished,
                };
                let expected = if refused_by(begins).contains(&by) { "34" } else { "yes" };
                assert_eq!(*cell, expected, "{name} beside {column}");
                walked += 1;
            }
        }
        assert_eq!(walked, ALL.len() * (ALL.len() + 1));
    }

    #[test]
    fn the_architecture_has_this_table() {
        assert!(include_str!("../../../../../ARCHITECTURE.md").contains(TABLE));
    }

    #[test]
    fn what_refuses_another_activity_has_a_lock() {
        for (name, activity) in ALL {
            let refuses = ALL.iter().any(|(_, begins)| refused_by(*begins).contains(&By::AtWork(activity)));
            assert_eq!(activity.lock_name().is_some(), refuses, "{name}");
        }
    }
}
