//! The frame's way through the switch.
