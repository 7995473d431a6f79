//! Names of namespaces that come, go, or lead elsewhere, and namespaces that end.

use std::io::ErrorKind;

use vswitch_api::view::MissingAs;
use vswitch_api::{Port, PortName};
use vswitch_linux::KernelError;

use super::in_namespace;
use crate::control::{Inner, LivePort};

impl Inner {
    /// A name leads to a namespace: what waits for it is made there.
    pub(in crate::control) async fn name_leads(&mut self, name: &str) {
        let here = |port: &Port| in_namespace(port, name);
        self.look_at_home(name).await;
        // The namespace that it led to before goes on without it, but the name is what the port was given.
        let unnamed = |port: &&Port| {
            let live = self.live.ports.get(&port.name);
            here(port) && live.is_some_and(|live| live.unnamed && live.moved.is_none())
        };
        for port in self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(unnamed)
            .cloned()
            .collect::<Vec<_>>()
        {
            match self.is_at_home(&port).await {
                // It is that namespace again.
                Ok(true) => {
                    if let Some(live) = self.live.ports.get_mut(&port.name) {
                        live.unnamed = false;
                    }
                }
                Ok(false) => {
                    let found = self.find_removable(&port).await;
                    self.lose(
                        |other| other.name == port.name,
                        "its namespace has another name",
                        MissingAs::Other,
                    )
                    .await;
                    // It is made where the name leads now; nothing of it stays in the namespace of before.
                    if let Err(error) = self.remove_interface(&port, found).await {
                        tracing::warn!(port = %port.name, "port {}: its interface of before can't be removed: {error}", port.name);
                    }
                }
                Err(error) => tracing::debug!(port = %port.name, "can't look where an interface is: {error}"),
            }
        }
        self.reattach_missing(here).await;
        self.reattach_cables(name).await;
    }

    /// Ports may be in a namespace that the name led to before, of whose end nothing was told: it came or went between two looks.
    async fn look_at_home(&mut self, name: &str) {
        let is_of_name = |live: &LivePort| live.id.is_some() && live.moved.is_none() && !live.unnamed;
        let ports = self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(|port| in_namespace(port, name));
        let ports = ports.filter(|port| self.live.ports.get(&port.name).is_some_and(is_of_name));
        for port in ports.cloned().collect::<Vec<_>>() {
            if !matches!(self.is_at_home(&port).await, Ok(false)) {
                continue;
            }
            // It may have been moved there just now.
            self.follow(&port).await;
            if self.live.ports.get(&port.name).is_some_and(is_of_name) {
                self.leave_if_dead(std::slice::from_ref(&port.name)).await;
            }
        }
    }

    /// Whether the interface of a port is in the namespace that the port was given.
    pub(super) async fn is_at_home(&self, port: &Port) -> Result<bool, KernelError> {
        let (Some(live), Some(wanted)) = (self.live.ports.get(&port.name), self.find_netns_of(port)?) else {
            return Ok(false);
        };
        match self.place_of(port, live).await {
            Ok(place) => Ok(place.is_some_and(|place| wanted.id() == place.netns.id())),
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A name leads nowhere any more, or elsewhere. Where processes live on in the namespace its ports stay as long as they do; where
    /// none does, nothing that the daemon has open may keep it.
    pub(in crate::control) async fn name_lost(&mut self, name: &str) {
        let here = |port: &Port, live: &LivePort| match &live.moved {
            Some(moved) => moved.namespace.as_ref().is_some_and(|moved| moved.as_str() == name),
            None => in_namespace(port, name),
        };
        let ports = self.store.state.lab.ports.iter().filter(|port| {
            let live = self.live.ports.get(&port.name).filter(|live| live.id.is_some());
            live.is_some_and(|live| here(port, live))
        });
        let ports: Vec<_> = ports.map(|port| port.name.clone()).collect();
        self.leave_if_dead(&ports).await;
    }

    /// Lets go of what these ports have in a namespace that nothing else keeps alive.
    pub(super) async fn leave_if_dead(&mut self, ports: &[PortName]) {
        for name in ports {
            let (Some(port), Some(live)) = (self.store.port(name).cloned(), self.live.ports.get(name)) else {
                continue;
            };
            let lives = match self.place_of(&port, live).await {
                Ok(Some(place)) => self.lives(place.netns.id()),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            let lives = match lives {
                Ok(lives) => lives,
                // Of a veth: neither a name nor a process leads to its far end any more.
                Err(error) if error.source.kind() == ErrorKind::NotFound => false,
                // What can't be told has not gone for that.
                Err(error) => {
                    tracing::debug!(port = %name, "can't look where an interface is: {error}");
                    continue;
                }
            };
            if !lives {
                let moved = live.moved.is_some();
                self.lose(
                    |other| other.name == *name,
                    "its namespace is gone",
                    MissingAs::NoNamespace,
                )
                .await;
                if moved || matches!(self.find_netns_of(&port), Ok(Some(_))) {
                    // The one that it was made in is still there, or another of that name.
                    self.deleted(name).await;
                }
                continue;
            }
            // What was told may be of the namespace before.
            let unnamed = !self.is_at_home(&port).await.unwrap_or(false);
            if let Some(live) = self.live.ports.get_mut(name) {
                live.unnamed = unnamed;
            }
        }
    }

    /// Whether there is a port in a namespace without a name, which lives as long as a process is in it.
    pub(super) fn has_unnamed(&self) -> bool {
        self.live.ports.values().any(|live| live.unnamed && live.id.is_some())
    }

    /// The namespaces of ports that have no name are looked at again and again, for nobody tells when their last process ends.
    pub(super) async fn leave_dead_namespaces(&mut self) {
        let unnamed = self
            .live
            .ports
            .iter()
            .filter(|(_, live)| live.unnamed && live.id.is_some());
        let unnamed: Vec<_> = unnamed.map(|(name, _)| name.clone()).collect();
        self.leave_if_dead(&unnamed).await;
    }
}
