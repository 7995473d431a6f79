//! What a client of the API can send as a body: no panic, and what was accepted is the same after a round trip.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use vswitch_api::request::{
    AddressAdd, CablePatch, ChangeOptions, FdbAdd, FdbSelect, MirrorPatch, NamespacePatch, PortPatch, SwitchPatch,
};
use vswitch_api::trace::TraceRequest;
use vswitch_api::{Cable, Lab, Mirror, NsName, Port, Route, Switch};

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let text = serde_json::to_vec(&value).expect("what was read can be written");
        assert_eq!(
            serde_json::from_slice::<T>(&text).expect("what was written can be read"),
            value
        );
    }
}

/// # Panics
/// It is not so.
pub fn check(data: &[u8]) {
    round_trip::<Lab>(data);
    round_trip::<Switch>(data);
    round_trip::<Port>(data);
    round_trip::<Cable>(data);
    round_trip::<Mirror>(data);
    round_trip::<TraceRequest>(data);
    round_trip::<Route>(data);
    round_trip::<NsName>(data);
    round_trip::<PortPatch>(data);
    round_trip::<SwitchPatch>(data);
    round_trip::<MirrorPatch>(data);
    round_trip::<NamespacePatch>(data);
    round_trip::<CablePatch>(data);
    round_trip::<FdbAdd>(data);
    round_trip::<FdbSelect>(data);
    round_trip::<AddressAdd>(data);
    round_trip::<ChangeOptions>(data);
}
