//! What an interface was given and has not any more.

use vswitch_api::view::AddressView;

use super::super::Control;

impl Control {
    /// Whether the interface of its port has this address no more, be it that somebody has taken it away inside or that it is gone itself.
    pub fn is_missing(&self, address: &AddressView) -> bool {
        let view = self.view();
        if view.attaching || address.lease_secs.is_some() {
            return false;
        }
        let lost = format!("its address {}", address.address);
        let live = view.ports.get(&address.port);
        live.is_none_or(|live| live.id.is_none() || live.lacks.contains(&lost))
    }
}
