//! Removing what a daemon made that does not run any more.

use std::path::Path;

use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab};

use super::complete::{Interfaces, complete};
use super::found::{has_near_ends, refuse_left};
use super::journal::Journal;
use super::namespace::is_present;
use super::plan::plan;
use super::state::{State, boot_id};
use super::state_file::{Loaded, StateFile};
use super::twins::tell;
use super::{Control, ControlConfig, text};
use vswitch_linux::{NamedNamespaces, Presence};

impl Control {
    /// Whether a daemon could start on what is there: its own state, and the note of what was half-done. Nothing is locked or changed.
    ///
    /// # Errors
    /// What would stop it.
    pub async fn check_start(state_dir: &Path, run_dir: &Path) -> Result<(), ApiError> {
        let file = StateFile::unlocked(state_dir);
        match file.load() {
            Loaded::Unusable(cause) => return Err(file.refusal(&cause)),
            Loaded::State(None) => file.missing(has_near_ends(run_dir).await).map_or(Ok(()), Err)?,
            Loaded::State(Some(mut state)) => {
                let boot_id = boot_id().map_err(|error| text::step("boot id", "read it", &error))?;
                refuse_left(&mut state, run_dir, &boot_id).await?;
            }
        }
        match Journal::new(run_dir).load() {
            // It would be set aside.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => Err(text::step(
                "run directory",
                "read the note of what was half-done",
                &error,
            )),
            _ => Ok(()),
        }
    }

    /// Removes everything that vswitch made, as a daemon that comes back, does it and stops.
    ///
    /// # Errors
    /// Those of [`Control::begin`] and [`Control::reset`].
    pub async fn reset_offline(config: ControlConfig) -> Result<Changes, ApiError> {
        let control = Self::start(ControlConfig {
            run_commands: false,
            ..config
        })
        .await?;
        let changes = control.reset(ChangeOptions::default()).await;
        // Nobody waits for what is left.
        drop(control.shutdown().await);
        changes
    }

    /// What that would remove, by the state on disk and the namespaces that are there: nothing is brought back for the question.
    ///
    /// # Errors
    /// The state can't be read, or another daemon has it.
    pub async fn would_reset_offline(config: &ControlConfig) -> Result<Changes, ApiError> {
        let file = StateFile::open(&config.state_dir)?;
        let mut state = match file.load() {
            Loaded::State(Some(state)) => *state,
            Loaded::State(None) => match file.missing(has_near_ends(&config.run_dir).await) {
                Some(error) => return Err(error),
                None => State::new(),
            },
            Loaded::Unusable(cause) => return Err(file.refusal(&cause)),
        };
        let boot_id = boot_id().map_err(|error| text::step("boot id", "read it", &error))?;
        state.take_in_older();
        state.forget_devices_of_another_boot(&boot_id);
        let mut nothing = Lab::default();
        complete(&mut state.lab, &Lab::default(), state.salt, &Interfaces::new());
        complete(&mut nothing, &state.lab, state.salt, &Interfaces::new());
        let named = NamedNamespaces::new(config.netns_dir.clone());
        let owned = |name: &_| {
            let Some(owned) = state.namespaces.iter().find(|owned| owned.name == *name) else {
                return false;
            };
            match named.open(name) {
                Presence::Here(netns) => owned.is(&netns, &boot_id).unwrap_or(true),
                Presence::Gone => false,
                // The step that removes it says why it can't.
                Presence::Unknown(_) => true,
            }
        };
        let steps = plan(&state.lab, &nothing, |name| is_present(&named, name), owned);
        let removed = steps.iter().filter(|step| step.removes());
        let mut changes = Changes {
            dry_run: true,
            removed: removed.flat_map(|step| step.describe()).collect(),
            ..Changes::default()
        };
        tell(&steps, &mut changes);
        Ok(changes)
    }
}
