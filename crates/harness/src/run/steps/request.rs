//! What a recovery is asked for.

use crate::{
    run::{Known, RunError},
    scenario::{Recover, Target, TargetBy},
};
use cdc_engine::{
    backup::PointSelector,
    recovery::{self, Playbook, Request},
};
use cdc_model::units::Timeline;

/// What the scenario asks for, as the command line would ask for it.
pub(super) fn request(known: Known<'_>, wanted: &Recover) -> Result<Request, RunError> {
    let playbook = match wanted {
        Recover::Coordinated(_) => Playbook::Coordinated,
        // A replay is no playbook; what a control does in its place is made of steps over the same state.
        Recover::Slot(_) | Recover::Replay(_) => Playbook::Slot,
        Recover::Schema(_) => Playbook::Schema,
        Recover::Exec(_) => return Err(known.unknown("playbook", wanted.playbook())),
    };
    let mut connectors = known.layout().connectors();
    // A database goes back with all its connectors; a slot is one connector's, and what the others deliver stays.
    let hit = |name: &String| known.chronicle.faults().any(|(aim, _)| aim == name);
    if matches!(playbook, Playbook::Slot) && connectors.iter().any(hit) {
        connectors.retain(hit);
    }
    // Other drills' connectors come and go on the same worker while the point is taken, which one of its checks counts as a
    // change. What the point is worth, the drill's own checks say.
    let accept_inconsistent_point = true;
    let mut request = Request { connectors, neighbours: false, accept_inconsistent_point, ..Request::new(playbook) };
    if let Some(name) = wanted.point() {
        request.point = PointSelector::Id(known.point(name)?.clone());
    }
    match wanted {
        Recover::Coordinated(r) => {
            request.timeline = r.timeline.and_then(Timeline::new);
            request.target = match &r.target {
                Target::Latest => recovery::Target::Latest,
                Target::Mark { mark, by } => {
                    let mark = known.mark(mark)?;
                    match by {
                        TargetBy::Name => recovery::Target::Name(mark.restore_point.clone()),
                        TargetBy::Lsn => recovery::Target::Lsn(mark.lsn),
                        TargetBy::Time => recovery::Target::Time(mark.time),
                    }
                }
            };
        }
        Recover::Slot(r) => request.topics = r.topics,
        Recover::Schema(r) => request.on_conflict = r.on_conflict,
        Recover::Replay(_) | Recover::Exec(_) => {}
    }
    Ok(request)
}
