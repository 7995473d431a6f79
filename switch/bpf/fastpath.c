// SPDX-License-Identifier: MIT OR GPL-2.0-only
// (The kernel lends bpf_check_mtu to programs under the GPL only; hence the second licence of this one file.)
//
// The kernel fast path: tc programs and the maps that they share with the daemon.
//
//   from_station   ingress of a veth port's near end: what its station sends
//   to_station     ingress of the port's shadow TAP: what the daemon sends to the station
//   from_device    ingress of a device: what comes from the wire goes to a near end
//   to_device      ingress of that near end's other end: what is for the wire
//
// A frame is forwarded here only if the daemon would do just the same with it: source and destination are in the table,
// the source at this very port, both ports on one switch, their untagged frames in one VLAN, and in no need of the daemon. All else goes to the daemon
// by the shadow TAP, one for each port, so that the daemon knows where the frame came in.
//
// The structures are those of src/kernel/bpf.rs; whoever changes one changes LAYOUT there.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_SLOTS 4096
#define MAX_STATIONS 131072
#define NSEC_PER_SEC 1000000000ULL

#define VLAN_HLEN 4
/* linux/include/net/ipv6.h; RFC 2675 section 2. */
#define IPV6_TLV_JUMBO 0xc2

/* port.flags: untagged frames from and to the port may be forwarded here. */
#define DIRECT 1
/* Tagged ones too: the switch does not tell VLANs apart. */
#define TAGS 2

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

/* All but DIRECT changes only while the port is not DIRECT. */
struct port {
	__u64 net[2];
	__u32 near;
	__u32 shadow;
	__u8 mac[ETH_ALEN]; /* of the station's interface */
	__u16 flags;
	__u16 vlan; /* of untagged frames */
	__u16 unused[3];
};

struct counters {
	__u64 rx_frames, rx_bytes, tx_frames, tx_bytes;
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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

/* Whether the segments of a BIG TCP frame over IPv6 fit the MTU. The kernel counts the hop-by-hop header with the jumbo payload
 * option (RFC 2675), which no segment has. */
static __always_inline int fits_without_jumbo(struct __sk_buff *skb, __u32 mtu)
{
	struct {
		struct ipv6hdr ip;
		__u8 next, length, option, option_length;
		__be32 payload;
		struct tcphdr tcp;
	} headers;

	if (skb->protocol != bpf_htons(ETH_P_IPV6) || skb->len <= 0xffff ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &headers, sizeof(headers)))
		return 0;
	return headers.ip.nexthdr == IPPROTO_HOPOPTS && headers.length == 0 && headers.option == IPV6_TLV_JUMBO &&
	       headers.next == IPPROTO_TCP && sizeof(headers.ip) + headers.tcp.doff * 4 + skb->gso_size <= mtu;
}

static __always_inline __u64 address(const __u8 *mac)
{
	return (__u64)mac[0] << 40 | (__u64)mac[1] << 32 | (__u64)mac[2] << 24 | (__u64)mac[3] << 16 |
	       (__u64)mac[4] << 8 | mac[5];
}

static __always_inline struct place *find(const struct port *port, const __u8 *mac)
{
	struct station key = {};

	key.net[0] = port->net[0];
	key.net[1] = port->net[1];
	key.vlan = port->vlan;
	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	return bpf_map_lookup_elem(&fdb, &key);
}

/* Slot at which the station of this address is; none (-1) if the element is another station's by now. */
static __always_inline int slot_of(const struct place *place, __u64 mac)
{
	__u64 where = *(const volatile __u64 *)&place->where;

	return (where & 0xffffffffffffULL) == mac ? (int)(where >> 48) : -1;
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

/* By the short way if the frame is for the interface itself: what goes there counts as addressed to the host,
 * so any other frame takes the long one, on which the kernel looks at its address. Behind a near end that has a
 * group address for its station is no host but a device, which sends all alike. */
static __always_inline int deliver(const struct port *port, __u64 dst)
{
	if (dst == address(port->mac) || port->mac[0] & 1)
		return bpf_redirect_peer(port->near, 0);
	return bpf_redirect(port->near, 0);
}

SEC("classifier")
int from_station(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	__u32 index = skb->ifindex, mtu = 0, len, now;
	__u32 *in_slot = bpf_map_lookup_elem(&slots, &index);
	struct port *in = in_slot ? bpf_map_lookup_elem(&ports, in_slot) : 0;
	struct place *from, *to;
	struct counters *count;
	struct port *out;
	__u32 out_slot;
	__u64 src, dst;
	int slot;

	if (!in)
		return TC_ACT_SHOT;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		goto daemon;
	if (!(in->flags & DIRECT) || eth->h_dest[0] & 1)
		goto daemon;
	/* Where they say the VLAN, tags are the daemon's business, whether they are in the frame or beside it. */
	if (!(in->flags & TAGS) && (skb->vlan_present || eth->h_proto == bpf_htons(ETH_P_8021Q) ||
				    eth->h_proto == bpf_htons(ETH_P_8021AD)))
		goto daemon;

	src = address(eth->h_source);
	from = find(in, eth->h_source);
	/* Not known, or not here: to be learned. Addresses that no station can have are never in the table. */
	if (!from || slot_of(from, src) != (int)*in_slot)
		goto daemon;
	dst = address(eth->h_dest);
	to = find(in, eth->h_dest);
	if (!to)
		goto daemon;
	slot = slot_of(to, dst);
	if (slot < 0 || slot == (int)*in_slot)
		goto daemon;
	out_slot = slot;
	out = bpf_map_lookup_elem(&ports, &out_slot);
	if (!out || !(out->flags & DIRECT) || out->vlan != in->vlan || out->net[0] != in->net[0] ||
	    out->net[1] != in->net[1])
		goto daemon;
	/* The daemon says in its counters why a frame that is too long for the port is dropped. */
	if (bpf_check_mtu(skb, out->near, &mtu, 0, BPF_MTU_CHK_SEGS) && !fits_without_jumbo(skb, mtu))
		goto daemon;

	now = bpf_ktime_get_coarse_ns() / NSEC_PER_SEC;
	/* Once a second: the line is shared by all processors. */
	if (from->seen != now)
		from->seen = now;
	/* A tag beside the frame is part of it. */
	len = skb->len + (skb->vlan_present ? VLAN_HLEN : 0);
	count = bpf_map_lookup_elem(&counts, in_slot);
	if (count) {
		count->rx_frames++;
		count->rx_bytes += len;
	}
	count = bpf_map_lookup_elem(&counts, &out_slot);
	if (count) {
		count->tx_frames++;
		count->tx_bytes += len;
	}
	return deliver(out, dst);

daemon:
	return bpf_redirect(in->shadow, 0);
}

SEC("classifier")
int to_station(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	__u32 index = skb->ifindex;
	__u32 *slot = bpf_map_lookup_elem(&slots, &index);
	struct port *port = slot ? bpf_map_lookup_elem(&ports, slot) : 0;

	if (!port || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	return deliver(port, address(eth->h_dest));
}

/* bpf_redirect leads to interfaces of one namespace only, and a device stays in its own. So a veth pair leads from there to the
 * near end in the daemon's, where all goes on as for a station. */
SEC("classifier")
int from_device(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	__u32 *end = bpf_map_lookup_elem(&splices, &index);

	return end ? bpf_redirect_peer(*end, 0) : TC_ACT_SHOT;
}

SEC("classifier")
int to_device(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	__u32 *device = bpf_map_lookup_elem(&splices, &index);

	return device ? bpf_redirect(*device, 0) : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
