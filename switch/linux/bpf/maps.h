/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps that the programs share with the daemon. The structures are those of ../src/bpf/layout.rs; whoever changes one changes
 * LAYOUT in ../src/bpf.rs. */

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#define MAX_SLOTS 4096
#define MAX_STATIONS 131072
/* Most ports of a switch whose floods the programs send. */
#define MAX_FLOOD 64

/* port.rules, upper half: frames from and to the port may be forwarded here. */
#define DIRECT (1 << 16)
/* The switch does not tell VLANs apart: tags are payload. All of the following is about those that do. */
#define PAYLOAD_TAGS (2 << 16)
/* Frames without a tag, or with one that tells the priority only, may come in: they are of the native VLAN. */
#define ACCEPT_UNTAGGED (4 << 16)
/* Frames with a customer tag may come in. */
#define ACCEPT_TAGGED (8 << 16)
/* The port is in VLANs besides the native one, whose frames have a customer tag there: in those of `members`. */
#define TRUNK (16 << 16)
/* In all VLANs. */
#define EVERY_VLAN (32 << 16)
/* (On any switch.) What goes to the station takes the long way: deliver(). */
#define LONG_WAY (64 << 16)
/* (On any switch.) The station's interface is down: what is sent to it is lost. */
#define NO_CARRIER (128 << 16)
/* Lower half: the native VLAN: 0 is that of frames in none; NO_VLAN: there is none. */
#define NATIVE(rules) ((__u16)(rules))

struct station {
	__u64 net[2]; /* name of the switch */
	__u16 vlan;
	__u8 mac[ETH_ALEN];
};

struct place {
	/* Slot of the port in the upper 16 bits, the station's address in the lower 48. An element that was freed and
	 * used for another station between look-up and load is known by the address. */
	__u64 where;
	__u32 seen; /* seconds of the monotonic clock */
	__u32 unused;
};

/* All but DIRECT, LONG_WAY and NO_CARRIER changes only while the port is not DIRECT. */
struct port {
	__u64 net[2];
	__u32 near;
	__u32 shadow;
	__u8 mac[ETH_ALEN]; /* of the station's interface */
	__u16 unused;
	__u32 rules; /* to be read by rules_of() */
	__u32 unused2;
};

struct vlans {
	__u64 words[64]; /* one bit for each VLAN */
};

/* Ports that get what is flooded on a switch: all that are up, and all of them DIRECT. */
struct flood {
	__u32 count;
	__u16 slots[MAX_FLOOD];
};

struct counters {
	__u64 rx_frames, rx_bytes, tx_frames, tx_bytes;
	__u64 rx_flooded, flood_copies;
	/* Copies of floods that the station did not get: since it has no carrier, or since the kernel did not take them. */
	__u64 tx_down, tx_refused;
	/* Of those flooded here: how many in which second of the monotonic clock. */
	__u32 flood_second, floods_in_it;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_STATIONS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct station);
	__type(value, struct place);
} fdb SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

/* Interface, near end or shadow, to slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* Slot of a TRUNK to its VLANs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct vlans);
} members SEC(".maps");

/* Name of a switch to where its floods go. Without an entry they are the daemon's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64[2]);
	__type(value, struct flood);
} floods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

/* All at once, so that they are of one time: while the daemon changes them, either DIRECT is not set, or DIRECT is all that changes. */
static __always_inline __u32 rules_of(const struct port *port)
{
	return *(const volatile __u32 *)&port->rules;
}

static __always_inline int same_net(const struct port *a, const struct port *b)
{
	return a->net[0] == b->net[0] && a->net[1] == b->net[1];
}

static __always_inline void count_sent(__u32 slot, __u32 len)
{
	struct counters *count = bpf_map_lookup_elem(&counts, &slot);

	if (count) {
		count->tx_frames++;
		count->tx_bytes += len;
	}
}

/* A copy that was not sent. */
static __always_inline void count_lost(__u32 slot, __u32 rules)
{
	struct counters *count = bpf_map_lookup_elem(&counts, &slot);

	if (count && rules & NO_CARRIER)
		count->tx_down++;
	else if (count)
		count->tx_refused++;
}

/* Interface to interface, both in the namespace of a device: the device to the end of the veth pair beside it (its splice),
 * and that end to the device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} splices SEC(".maps");
