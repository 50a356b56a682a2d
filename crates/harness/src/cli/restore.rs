//! `restore`: one part of a recovery point alone.

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::{
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
    words,
};
use cdc_engine::{
    backup::PointSelector,
    recovery::{self, PartOutcome, PartRequest, PipelinePart},
};
use cdc_model::{
    units::{Exit, counted},
    vocabulary::PartLoss,
};
use cdc_pipeline::config::Config;

/// Bring back one part of a recovery point: connectors, topics, groups or the registry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Make connectors again or change them back, STOPPED; set stored offsets where they are safe; then let them go on
    Connectors {
        #[command(flatten)]
        what: What,
        /// Agree to a loss; may be given several times
        #[arg(long, value_parser = words::part_loss(), value_name = "LOSS")]
        accept_loss: Vec<PartLoss>,
        /// The connectors; all of the point when none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Make topics again, empty, or give them the partitions and settings that they had
    Topics {
        #[command(flatten)]
        what: What,
        /// The topics; all of the point but those in which servers keep their state when none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Commit the positions that consumer groups had
    Groups {
        #[command(flatten)]
        what: What,
        /// Set positions in this topic although it is another one than that of the point, or does not have them
        #[arg(long, value_name = "TOPIC")]
        accept_topic: Vec<String>,
        /// The groups; all of the point when none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Register again what the registry lacks, under the ids that it had, and put levels, rules, states and descriptions back
    Registry {
        #[command(flatten)]
        what: What,
        /// Subjects, artifacts (`group/artifact`) or groups; everything when none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct What {
    /// The pipeline's configuration file
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// The recovery point: `latest` (the newest that has the part) or an id of `backup list`
    #[arg(long, default_value = "latest", value_name = "POINT")]
    point: PointSelector,
    /// Take the recovery point that --point names although consistency checks failed when it was taken
    #[arg(long)]
    accept_inconsistent_point: bool,
    /// Agree to the changes
    #[arg(long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl What {
    fn request(&self, part: PipelinePart, names: Vec<String>) -> Result<PartRequest, CliError> {
        if self.accept_inconsistent_point && self.point == PointSelector::Latest {
            return Err(CliError::new(
                Exit::Usage,
                "--accept-inconsistent-point: expected the id of the recovery point (--point ID), found `latest`",
            )
            .hint("`backup list` shows the points and which of their checks failed"));
        }
        Ok(PartRequest {
            names,
            point: self.point.clone(),
            accept_inconsistent_point: self.accept_inconsistent_point,
            // Without --yes it ends in a refusal, for which nobody else has to give way.
            dry_run: self.dry.is_on() || !self.yes,
            ..PartRequest::new(part)
        })
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.part {
        Part::Connectors { what, accept_loss, names } => {
            let request = what.request(PipelinePart::Connectors, names)?;
            let accept_lost_offsets = accept_loss.contains(&PartLoss::Offsets);
            restore(&what, PartRequest { accept_lost_offsets, ..request }).await
        }
        Part::Topics { what, names } => restore(&what, what.request(PipelinePart::Topics, names)?).await,
        Part::Groups { what, accept_topic, names } => {
            let request = what.request(PipelinePart::Groups, names)?;
            restore(&what, PartRequest { accept_topics: accept_topic.into_iter().collect(), ..request }).await
        }
        Part::Registry { what, names } => restore(&what, what.request(PipelinePart::Registry, names)?).await,
    }
}

async fn restore(what: &What, request: PartRequest) -> Result<Exit, CliError> {
    let config = Config::load(&what.config)?;
    let plan = unless_interrupted(recovery::plan_part(&config, &request)).await??;
    let planned = plan.outcome();
    show(planned);
    let ends_here = planned.changes.is_empty() || request.dry_run;
    if ends_here && what.json {
        print_json(planned)?;
    }
    let changed = counted(planned.changes.len(), "change");
    if planned.changes.is_empty() {
        say(format!("{} of recovery point {}: nothing differs", request.part.word(), planned.point));
        return Ok(Exit::Passed);
    }
    if what.dry.told(format!("make the {changed} named above")) {
        return Ok(Exit::Passed);
    }
    if !what.yes {
        let message = format!("refused: this would make the {changed} named above");
        return Err(CliError::new(Exit::Refused, message).hint("nothing was changed; run again with --yes to go ahead"));
    }
    let done = unless_interrupted(plan.run()).await??;
    if what.json {
        print_json(&done)?;
    }
    done.read_back.iter().for_each(say);
    say(format!("{} of recovery point {}: {changed} made and read back", request.part.word(), done.point));
    Ok(Exit::Passed)
}

fn show(plan: &PartOutcome) {
    say(format!("recovery point: {}", plan.point));
    for note in &plan.notes {
        say(format!("note: {note}"));
    }
    for change in &plan.changes {
        say(format!("{}:", change.name));
        for line in &change.does {
            say(format!("    {line}"));
        }
        for line in &change.destroys {
            say(format!("    destroys {line}"));
        }
    }
    if !plan.unchanged.is_empty() {
        say(format!("as the point has them: {}", plan.unchanged.join(", ")));
    }
}
