//! What a lab needs, and what it refuses.

use super::*;

#[test]
fn a_port_needs_only_its_name() {
    let port: Port = serde_json::from_str(r#"{"name":"red"}"#).unwrap();
    assert_eq!(
        port,
        Port::new("red".parse().unwrap(), default_switch(), PortKind::Veth)
    );
}

#[test]
fn an_unknown_key_is_an_error() {
    let error = serde_json::from_str::<Port>(r#"{"name":"red","vlan_id":3}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("vlan_id"), "{error}");
}
