//! Whose code a thread was in when it panicked: that of a port, of which anybody may have written one, or ours.

use std::any::Any;
use std::cell::Cell;
use std::mem;

use super::PortRef;
use super::snapshot::PortEntry;
use crate::port::PortIo;

thread_local! {
    /// The port whose own code panicked in this thread, until somebody asks.
    static PANICKED: Cell<Option<PortRef>> = const { Cell::new(None) };
}

/// Notes the port if it is dropped, which only a panic does.
struct Inside<'a>(&'a PortEntry);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        PANICKED.set(Some(self.0.port_ref()));
    }
}

/// Runs the port's own code. That costs nothing unless it panics.
#[inline(always)]
pub(super) fn inside<T>(port: &PortEntry, run: impl FnOnce(&dyn PortIo) -> T) -> T {
    let inside = Inside(port);
    let result = run(&*port.io);
    mem::forget(inside);
    result
}

/// The port whose code it was, of a panic that was caught in this thread.
pub(super) fn panicked() -> Option<PortRef> {
    PANICKED.take()
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it does not say why")
}
