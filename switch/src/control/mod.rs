//! The model of switches, ports and namespaces, and what makes the kernel and the datapath match it.
