//! Taking back what one edit has made of a lab, though others came after it.

use crate::Lab;

impl Lab {
    /// Takes back what an edit has made of `before`, as far as nobody has changed it since; `after`: what the edit has left. Gives what of
    /// it stays, as somebody has.
    pub fn take_back(&mut self, before: &Self, after: &Self) -> Vec<String> {
        if self == after {
            self.clone_from(before);
            return Vec::new();
        }
        let mut stays = Vec::new();
        macro_rules! back {
            ($list:ident, $same:expr, $told:expr) => {{
                let stay = back(&mut self.$list, &before.$list, &after.$list, $same);
                stays.extend(stay.iter().filter_map($told));
            }};
        }
        back!(switches, |a, b| a.name == b.name, |one| Some(format!(
            "switch \"{}\"",
            one.name
        )));
        back!(namespaces, |a, b| a.name == b.name, |one| Some(format!(
            "namespace \"{}\"",
            one.name
        )));
        back!(ports, |a, b| a.name == b.name, |one| Some(format!(
            "port \"{}\"",
            one.name
        )));
        back!(cables, |a, b| a.is_same_pair(b), |one| Some(format!(
            "cable \"{}\" - \"{}\"",
            one.a.namespace, one.b.namespace
        )));
        back!(commands, |a, b| a.name == b.name, |one| Some(format!(
            "command \"{}\"",
            one.name
        )));
        back!(mirrors, |a, b| a.name == b.name, |one| Some(format!(
            "mirror \"{}\"",
            one.name
        )));
        // It follows from the rest.
        back!(labs, |a, b| a.name == b.name, |_| None);
        stays
    }
}

/// The same of one list; gives what stays.
fn back<T: Clone + PartialEq>(now: &mut Vec<T>, before: &[T], after: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let find = |list: &[T], one: &T| list.iter().find(|other| same(one, other)).cloned();
    let (mut kept, mut stays) = (Vec::new(), Vec::new());
    for one in now.drain(..) {
        match (find(before, &one), find(after, &one)) {
            // It came since, or the edit had no part in it.
            (None, None) => kept.push(one),
            (Some(old), Some(left)) if old == left => kept.push(one),
            (old, Some(left)) if left == one => kept.extend(old),
            _ => {
                stays.push(one.clone());
                kept.push(one);
            }
        }
    }
    let gone = before.iter().filter(|old| find(after, old).is_none());
    let gone: Vec<_> = gone.filter(|old| find(&kept, old).is_none()).cloned().collect();
    kept.extend(gone);
    *now = kept;
    stays
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lab(ports: &[(&str, u32)]) -> Lab {
        let port = |(name, mtu): &(&str, u32)| json!({ "name": name, "mtu": mtu });
        let ports: Vec<_> = ports.iter().map(port).collect();
        serde_json::from_value(json!({ "ports": ports })).unwrap()
    }

    fn ports(lab: &Lab) -> Vec<(&str, u32)> {
        let ports = lab.ports.iter();
        ports.map(|port| (port.name.as_str(), port.mtu.unwrap())).collect()
    }

    #[test]
    fn only_what_is_as_the_edit_left_it_is_taken_back() {
        let before = lab(&[
            ("kept", 1),
            ("set", 1),
            ("set-again", 1),
            ("gone", 1),
            ("gone-twice", 1),
        ]);
        let after = lab(&[("kept", 1), ("set", 2), ("set-again", 2), ("new", 1), ("new-set", 1)]);
        let mut now = lab(&[
            ("kept", 9),
            ("set", 2),
            ("set-again", 3),
            ("new", 1),
            ("new-set", 2),
            ("others", 1),
        ]);
        let stays = now.take_back(&before, &after);
        assert_eq!(stays, ["port \"set-again\"", "port \"new-set\""]);
        let expected = [
            ("kept", 9),
            ("set", 1),
            ("set-again", 3),
            ("new-set", 2),
            ("others", 1),
            ("gone", 1),
            ("gone-twice", 1),
        ];
        assert_eq!(ports(&now), expected);
    }

    #[test]
    fn without_another_edit_all_is_as_it_was() {
        let (before, after) = (lab(&[("b", 1), ("a", 1)]), lab(&[("a", 2), ("c", 1)]));
        let mut now = after.clone();
        assert!(now.take_back(&before, &after).is_empty());
        assert_eq!(now, before);
    }
}
