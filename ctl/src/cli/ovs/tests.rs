use super::*;

#[test]
fn columns_are_written_in_several_ways() {
    for (text, column, value) in [
        ("tag=10", "tag", "10"),
        ("vlan-mode=trunk", "vlan_mode", "trunk"),
        ("trunks=[1,2]", "trunks", "[1,2]"),
        ("type=\"internal\"", "type", "internal"),
        ("other-config:mac-aging-time=60", "other_config:mac-aging-time", "60"),
        ("other_config={mac-aging-time=60}", "other_config:mac-aging-time", "60"),
    ] {
        let said: ColumnValue = text.parse().unwrap();
        assert_eq!((said.column.0.as_str(), said.value.as_str()), (column, value), "{text}");
    }
    for wrong in ["tag", "=10", "10=tag", ":x=1"] {
        let said = wrong.parse::<ColumnValue>();
        assert!(said.is_err(), "{wrong}: {said:?}");
    }
}
