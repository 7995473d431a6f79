//! Edits of single rules of access control lists, so that those made at the same time all count.

use vswitch_api::acl::{AclRule, PortAcl};
use vswitch_api::request::{AclAdd, AclList, AclSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Port, PortName};

use super::condition::Editing;
use super::{Control, text};

impl Control {
    /// Puts a rule into a list of a port.
    ///
    /// # Errors
    /// NotFound: the port. Invalid: there is no such place in the list, or it is full.
    pub async fn acl_add(
        &self,
        name: &PortName,
        add: AclAdd,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.edit_one(name, options, |port: &mut Port, options| {
            let rules = list(&mut port.acl, add.direction);
            if options.idempotent && rules.contains(&add.rule) {
                return Ok(());
            }
            let place = add.at.unwrap_or(rules.len() + 1);
            if !(1..=rules.len() + 1).contains(&place) {
                return Err(no_rule(name, place, rules.len()));
            }
            rules.insert(place - 1, add.rule);
            Ok(())
        })
        .await
    }

    /// Takes one rule out of a list of a port, or empties one list or both.
    ///
    /// # Errors
    /// NotFound: the port; there is no such place in the list. Invalid: it is not said of which list the place is.
    pub async fn acl_remove(
        &self,
        name: &PortName,
        select: AclSelect,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.take_from_one(name, options, |port: &mut Port, options| {
            let acl = &mut port.acl;
            match (select.direction, select.at) {
                (None, None) => *acl = PortAcl::default(),
                (Some(direction), None) => list(acl, direction).clear(),
                (Some(direction), Some(place)) => {
                    let rules = list(acl, direction);
                    if (1..=rules.len()).contains(&place) {
                        rules.remove(place - 1);
                    } else if !options.idempotent {
                        return Err(ApiError {
                            code: ErrorCode::NotFound,
                            ..no_rule(name, place, rules.len())
                        });
                    }
                }
                (None, Some(place)) => {
                    let cause = format!("it is not said of which list rule {place} is");
                    return Err(text::invalid(text::port(name), cause).hint("say direction=in or direction=out"));
                }
            }
            Ok(())
        })
        .await
    }
}

fn list(acl: &mut PortAcl, direction: AclList) -> &mut Vec<AclRule> {
    match direction {
        AclList::In => &mut acl.ingress,
        AclList::Out => &mut acl.egress,
    }
}

fn no_rule(name: &PortName, place: usize, rules: usize) -> ApiError {
    let cause = format!("there is no place {place} in the list: the list has {rules} rules");
    text::invalid(text::port(name), cause).hint(format!("`vswitchctl acl show {name}` numbers them"))
}
