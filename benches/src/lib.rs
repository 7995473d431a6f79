//! Criterion benches of the datapath and the side-by-side rig against other switches
