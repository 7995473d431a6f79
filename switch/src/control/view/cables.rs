//! What is said of cables: whether they are there.

use futures::{StreamExt, stream};
use vswitch_api::view::PortState;
use vswitch_api::{ApiError, Cable, CableEnd, CableView, NsName};

use super::super::attach::AT_ONCE;
use super::super::cable::{find_ends, name};
use super::super::place::Place;
use super::super::{Control, View, text};
use vswitch_linux::KernelError;

impl Control {
    /// The cables between two namespaces.
    ///
    /// # Errors
    /// NotFound: there is none.
    pub async fn cables_between(&self, a: &NsName, b: &NsName) -> Result<Vec<CableView>, ApiError> {
        let view = self.view();
        let found = view.state.lab.cables.iter().filter(|cable| cable.joins(a, b));
        let cables: Vec<_> = found.cloned().collect();
        if cables.is_empty() {
            return Err(text::no_cable(a, b));
        }
        Ok(view.cable_views(cables).await)
    }

    /// All cables.
    ///
    /// # Errors
    /// None.
    pub async fn cables(&self) -> Result<Vec<CableView>, ApiError> {
        let view = self.view();
        Ok(view.cable_views(view.state.lab.cables.clone()).await)
    }
}

impl View {
    async fn cable_views(&self, cables: Vec<Cable>) -> Vec<CableView> {
        let looking = stream::iter(cables).map(|cable| async move {
            let open = |end: &CableEnd| self.named.open(&end.namespace).known();
            let [a, b] = find_ends(&cable, [open(&cable.a), open(&cable.b)]).await;
            let conditions = [self.condition_of(&cable.a, a), self.condition_of(&cable.b, b)];
            // The worse end tells of it.
            let worst = conditions.into_iter().max_by_key(|(state, _)| match state {
                PortState::Missing => 2,
                PortState::Up => 0,
                _ => 1,
            });
            let (state, reason) = worst.unwrap_or((PortState::Up, None));
            CableView { cable, state, reason }
        });
        looking.buffered(AT_ONCE).collect().await
    }

    fn condition_of(&self, end: &CableEnd, found: Result<Option<Place>, KernelError>) -> (PortState, Option<String>) {
        let (namespace, ifname) = (&end.namespace, name(end));
        match found {
            Ok(Some(place)) if place.link.up => (PortState::Up, None),
            Ok(Some(place)) => {
                let ifname = place.link.name.escape_debug();
                let reason = format!("its end {ifname} in namespace {namespace} is down");
                (PortState::NoCarrier, Some(reason))
            }
            Ok(None) => {
                let reason = match self.named.open(namespace).is_gone() {
                    true => format!("namespace {namespace} is gone"),
                    false => format!("its end {ifname} in namespace {namespace} is gone"),
                };
                (PortState::Missing, Some(reason))
            }
            // It is there for all that is known.
            Err(error) => (PortState::Unknown, Some(error.to_string())),
        }
    }
}
