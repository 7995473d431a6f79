//! Attaching programs where the kernel has no tcx links (before 6.6): as tc filters, by an ingress or clsact qdisc.
//!
//! A filter is nothing that could be pinned. It stays on its interface, with the program and its maps, until another one takes
//! its place or the interface goes. On a near end that place is the one of the filter that drops all ([`super::tc`]), so that
//! one is exchanged for the other in one step; either way nothing comes to the own stack.

use std::mem;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::tc::{FILTER_HANDLE, PRIORITY};

const HANDLE: TcHandle = TcHandle::new((FILTER_HANDLE >> 16) as u16, FILTER_HANDLE as u16);

/// Attaches a program to the ingress of an interface of the calling thread's namespace, in the place of the filter that is
/// there, if there is one.
///
/// # Errors
/// ENODEV: no such interface. ENOENT: the kernel has no clsact qdisc or no cls_bpf.
pub fn attach(program: &mut SchedClassifier, name: &str) -> Result<(), ProgramError> {
    let there = SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .map_err(|error| ProgramError::TcError(error.into()))?;
    let id = match program.attach_to_link(there) {
        Ok(id) => id,
        // Without a qdisc, or without a filter.
        Err(_) => attach_anew(program, name)?,
    };
    // Dropping it would detach the program.
    mem::forget(program.take_link(id)?);
    Ok(())
}

/// Finds out whether programs can be attached so, and leaves none.
///
/// # Errors
/// Those of [`attach`].
pub fn probe(program: &mut SchedClassifier, name: &str) -> Result<(), ProgramError> {
    let id = attach_anew(program, name)?;
    program.detach(id)
}

fn attach_anew(
    program: &mut SchedClassifier,
    name: &str,
) -> Result<aya::programs::tc::SchedClassifierLinkId, ProgramError> {
    // It may have one, and then attaching tells whether that serves.
    let _ = qdisc_add_clsact(name);
    let options = NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    };
    program.attach_with_options(name, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
}
