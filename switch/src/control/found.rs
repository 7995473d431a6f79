//! What is found of the daemon before as this one starts, and whether it may go on with that.

use std::path::Path;

use vswitch_api::{ApiError, ErrorCode};

use super::journal::{InFlight, Journal};
use super::state::State;
use super::state_file::{Loaded, StateFile};
use super::{ControlConfig, text};
use vswitch_linux::{NetNs, Presence};

/// What is on disk, or an empty state if that is what is asked for or there is none. `limits`: takes what was not as it should be.
///
/// # Errors
/// It can't be used, or is missing where there was one.
pub(super) async fn load(
    file: &StateFile,
    config: &ControlConfig,
    limits: &mut Vec<String>,
) -> Result<State, ApiError> {
    match file.load() {
        Loaded::State(Some(state)) => return Ok(*state),
        Loaded::State(None) => match file.missing(has_near_ends(&config.run_dir).await) {
            Some(error) if !config.recover => return Err(error),
            Some(error) => {
                limits.push(format!("{error}; the lab began empty"));
                return Ok(file.empty_lab());
            }
            None => {}
        },
        Loaded::Unusable(cause) if config.recover => {
            let state = file.empty_lab();
            limits.push(begin_anew(file, &cause, &state)?);
            return Ok(state);
        }
        Loaded::Unusable(cause) => return Err(file.refusal(&cause)),
    }
    Ok(State::new())
}

/// Takes note of the run directory.
///
/// # Errors
/// What the lab is made of is in another one, where nobody would find it.
pub(super) async fn refuse_left(state: &mut State, run_dir: &Path, boot_id: &str) -> Result<(), ApiError> {
    let Some(left) = state.take_run_dir(run_dir, boot_id) else {
        return Ok(());
    };
    if !has_near_ends(&left).await {
        return Ok(());
    }
    let (new, left) = (run_dir.display(), left.display());
    let cause =
        format!("the lab is in the run directory {left}; nothing was changed, and what the kernel carries goes on");
    let hint = format!(
        "start with that one, or take the lab out of it (vswitchd --reset --keep-lab --run-dir {left}) and start again"
    );
    Err(ApiError::new(ErrorCode::Invalid, format!("run directory {new}"), cause).hint(hint))
}

/// Whether a daemon before has left near ends of a lab. What can't be looked at is told of when it is to be used.
pub(super) async fn has_near_ends(run_dir: &Path) -> bool {
    let Presence::Here(own) = NetNs::open(&run_dir.join("netns")) else {
        return false;
    };
    let links = own.links_once().await.unwrap_or_default();
    links.iter().any(|link| link.kind.as_deref() == Some("veth"))
}

/// What a command of the daemon before had begun.
///
/// # Errors
/// It can't be read now: without it the daemon would leave behind, or overwrite, what is noted there.
pub(super) fn half_done(journal: &Journal) -> Result<InFlight, ApiError> {
    let error = match journal.load() {
        Ok(note) => return Ok(note),
        Err(error) => error,
    };
    let refused = |step: &str, error: &std::io::Error| {
        text::step("run directory", step, error).hint("nothing was changed; mend it and start again")
    };
    if error.kind() != std::io::ErrorKind::InvalidData {
        return Err(refused("read the note of what was half-done", &error));
    }
    let aside = journal
        .set_aside()
        .map_err(|error| refused("set the note of what was half-done aside", &error))?;
    tracing::error!(
        "the note of what was half-done can't be understood ({error}); it was set aside as {}",
        aside.display()
    );
    Ok(InFlight::default())
}

/// On request: sets a file that can't be used aside. Gives what is to be told of it. `state`: what there is in its place.
fn begin_anew(file: &StateFile, cause: &str, state: &State) -> Result<String, ApiError> {
    let aside = file.set_aside().map_err(|error| {
        text::step("state", "set the state file aside", &error)
            .hint("see that the state directory can be written and has room")
    })?;
    let stays = match state.namespaces.len() {
        0 => String::new(),
        count => format!(
            ", with {count} namespaces of the one before, which `vswitchctl ns list` shows and `vswitchctl reset` removes"
        ),
    };
    let notice = format!(
        "the state file could not be used ({cause}); it was set aside as {} and the lab began empty{stays}",
        aside.display()
    );
    tracing::error!("{notice}");
    Ok(notice)
}
