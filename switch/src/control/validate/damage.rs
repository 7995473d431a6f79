//! What no daemon ever writes into its state, as each edit refuses it: a file that has it was changed by somebody else.

use vswitch_api::{ApiError, Lab};

use super::super::links::check_links;
use super::super::text;
use super::{check_capacity, check_mac, check_mtu};

/// Refuses what would bring a daemon down that starts with it, or what the kernel refuses port by port. What depends on the machine, or on
/// rules that may come to be, is no damage.
pub(in super::super) fn check_read(lab: &Lab) -> Result<(), ApiError> {
    lab.switches.iter().try_for_each(check_capacity)?;
    for port in &lab.ports {
        let object = text::port(&port.name);
        if lab.switch(&port.switch).is_none() {
            return Err(text::invalid(
                object,
                format!("there is no {}", text::switch(&port.switch)),
            ));
        }
        port.mac.map_or(Ok(()), |mac| check_mac(&object, mac))?;
        check_mtu(&object, port.mtu)?;
    }
    for cable in &lab.cables {
        let object = text::cable(cable);
        check_mtu(&object, cable.mtu)?;
        for mac in [&cable.a, &cable.b].into_iter().filter_map(|end| end.mac) {
            check_mac(&object, mac)?;
        }
    }
    check_links(lab)
}
