//! Listening at ports: what captures and live traces have in common.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use vswitch_api::{ApiError, PortName};

use super::{Control, View, text};
use vswitch_datapath::filter::Program;
use vswitch_datapath::sniffer::{Seen, Sniffer, SnifferSetup};
use vswitch_datapath::{Datapath, PortRef};
use vswitch_linux::memory;
use vswitch_linux::poll::readable;

/// The sniffers of one reader. They are taken off their ports when this is dropped.
pub(super) struct Listening {
    pub datapath: Arc<Datapath>,
    /// The port and sniffer of each number.
    on: Vec<(PortRef, Arc<Sniffer>)>,
    /// The first of them, by which all are read.
    first: Arc<Sniffer>,
    ready: AsyncFd<OwnedFd>,
}

impl Control {
    /// Listens at ports; the number of a port is its place.
    ///
    /// # Errors
    /// NotFound. Conflict: a port is missing. Invalid: the filter is no program.
    pub(super) async fn listen(
        &self,
        names: &[PortName],
        (ingress, egress): (bool, bool),
        filter: Option<&str>,
    ) -> Result<Listening, ApiError> {
        let filter = filter.map(str::parse::<Program>).transpose();
        let filter = filter.map_err(|error| text::invalid("filter", error.to_string()))?;
        let (datapath, ports) = {
            let view = self.view();
            let ports: Result<Vec<_>, _> = names.iter().map(|name| view.live_id(name)).collect();
            (view.datapath.clone(), ports?)
        };
        let failed = |error| {
            let object = names.first().map_or_else(|| "ports".to_owned(), text::port);
            text::step(object, "open a sniffer", &error)
        };
        let setup = SnifferSetup {
            ingress,
            egress,
            filter,
        };
        let first = Sniffer::new(setup).map(Arc::new).map_err(failed)?;
        let ready = first.ready().try_clone_to_owned().and_then(readable).map_err(failed)?;
        let sniffer = |number| match number {
            0 => first.clone(),
            number => Arc::new(first.beside(number)),
        };
        let on: Vec<_> = ports.into_iter().zip((0..).map(sniffer)).collect();
        let listening = Listening {
            datapath,
            on,
            first,
            ready,
        };
        let gone = listening.put_on().await.iter().position(|on| !on);
        match gone.and_then(|gone| names.get(gone)) {
            Some(gone) => Err(text::no_port(gone)),
            None => Ok(listening),
        }
    }
}

impl View {
    /// A port in the datapath.
    ///
    /// # Errors
    /// NotFound. Conflict: it is missing.
    pub(super) fn live_id(&self, name: &PortName) -> Result<PortRef, ApiError> {
        let live = self.ports.get(name).ok_or_else(|| text::no_port(name))?;
        live.id.ok_or_else(|| {
            let reason = live.reason.as_deref().unwrap_or("its interface is gone");
            text::conflict(text::port(name), format!("it is missing: {reason}"))
                .hint(format!("`vswitchctl port show {name}` tells its state"))
        })
    }
}

impl Listening {
    /// Puts the sniffers on their ports and tells which are there. The kernel, which may forward what comes in there, is waited for
    /// elsewhere.
    async fn put_on(&self) -> Vec<bool> {
        let (datapath, on) = (self.datapath.clone(), self.on.clone());
        let added = spawn_blocking(move || datapath.add_sniffers(&on)).await;
        added.unwrap_or_else(|_| vec![false])
    }

    /// The sniffer by which all of it can be ended.
    pub(super) fn sniffer(&self) -> &Arc<Sniffer> {
        &self.first
    }

    /// The port of a number.
    pub(super) fn port(&self, number: u32) -> Option<PortRef> {
        Some(self.on.get(number as usize)?.0)
    }

    /// Frames lost so far, by number.
    pub(super) fn lost(&self) -> impl Iterator<Item = u64> {
        self.on.iter().map(|(_, sniffer)| sniffer.lost())
    }

    /// Takes note that the reader is about to look, so that what comes from here on is signalled; tells whether nothing more will come.
    pub(super) fn acknowledge(&self) -> bool {
        self.first.acknowledge();
        self.first.is_closed()
    }

    /// The next frame that waits.
    pub(super) fn take(&self) -> Option<Seen> {
        self.first.take()
    }

    /// Waits until there is something to take or to know; false: the runtime ends.
    pub(super) async fn readable(&self) -> bool {
        match self.ready.readable().await {
            Ok(mut guard) => {
                guard.clear_ready();
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Listening {
    /// Soon, and elsewhere: the workers are waited for.
    fn drop(&mut self) {
        let (datapath, on, first) = (self.datapath.clone(), std::mem::take(&mut self.on), self.first.clone());
        let remove = move || {
            datapath.remove_sniffers(&on);
            // What waited there may have been much.
            drop((on, first));
            memory::give_back();
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
