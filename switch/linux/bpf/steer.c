// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Chooses the queue of a TAP device, and so the worker, for each frame that leaves by it (TUNSETSTEERINGEBPF): the same for all frames
// of a talk, there and back. Talks that begin one after another, and stations with neighbouring addresses, get queues by turns. What is
// no IP comes by the first queue, in its order. And it notes on which core the frame was sent, for the worker to come near.
//
// src/steer.rs loads it. Without it the kernel asks a table of flows, for which it hashes each frame that is written, too.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MOST_TAGS 2
#define MORE_FRAGMENTS_OR_OFFSET 0x3fff

/* A frame without its tags, from its ethertype on. */
struct v4 {
	/* Keeps the addresses aligned. */
	__be16 unused;
	__be16 ethertype;
	struct iphdr header;
	__be16 ports[2];
};
#define V4_AT (ETH_HLEN - sizeof(__be16))
#define V4_LEN (sizeof(struct v4) - sizeof(__be16))

/* The end of an IPv6 header, and what follows it. */
struct v6 {
	__be32 addresses[8];
	__be16 ports[2];
};
#define V6_PROTOCOL_AT (ETH_HLEN + 6)
#define V6_AT (ETH_HLEN + 8)

/* One a cache line. */
struct place {
	/* Of the first: how many queues there are. Of the n-th after it: the core on which a frame was put into the n-th queue of some
	   device last, counted from 1. */
	__u32 number;
	__u32 unused[15];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	/* PLACES of src/steer.rs. */
	__uint(max_entries, 257);
	__type(key, __u32);
	__type(value, struct place);
} places SEC(".maps");

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline __u32 talk(__u32 stations, const __be16 *ports)
{
	/* Talks that begin one after another have ports two apart. */
	__u32 number = ports ? (__u32)(bpf_ntohs(ports[0]) + bpf_ntohs(ports[1])) >> 1 : 0;

	return stations + (stations >> 16) + number;
}

static __always_inline __u32 of_v6(struct __sk_buff *frame, __u32 tags)
{
	__u8 protocol;
	struct v6 v6;
	__u32 stations = 0;
	int i;

	if (bpf_skb_load_bytes(frame, V6_PROTOCOL_AT + tags, &protocol, sizeof(protocol)) ||
	    bpf_skb_load_bytes(frame, V6_AT + tags, &v6, sizeof(v6)))
		return 0;
	for (i = 0; i < 8; i++)
		stations += bpf_ntohl(v6.addresses[i]);
	return talk(stations, has_ports(protocol) ? v6.ports : NULL);
}

static __always_inline __u32 number(struct __sk_buff *frame)
{
	struct v4 v4;
	__u32 tags = 0, stations;
	int i, whole;

	for (i = 0; i <= MOST_TAGS; i++, tags += 4) {
		if (bpf_skb_load_bytes(frame, V4_AT + tags, &v4.ethertype, V4_LEN))
			return 0;
		if (v4.ethertype != bpf_htons(ETH_P_8021Q) && v4.ethertype != bpf_htons(ETH_P_8021AD))
			break;
	}
	if (v4.ethertype == bpf_htons(ETH_P_IPV6))
		return of_v6(frame, tags);
	if (v4.ethertype != bpf_htons(ETH_P_IP))
		return 0;
	stations = bpf_ntohl(v4.header.saddr) + bpf_ntohl(v4.header.daddr);
	whole = v4.header.ihl == 5 && !(v4.header.frag_off & bpf_htons(MORE_FRAGMENTS_OR_OFFSET));
	return talk(stations, whole && has_ports(v4.header.protocol) ? v4.ports : NULL);
}

SEC("socket")
int choose_queue(struct __sk_buff *frame)
{
	__u32 key = 0, core = bpf_get_smp_processor_id() + 1, queue;
	struct place *place = bpf_map_lookup_elem(&places, &key);

	/* Divided by 0 it is 0. */
	queue = place ? number(frame) % place->number : 0;
	key = queue + 1;
	place = bpf_map_lookup_elem(&places, &key);
	if (place && place->number != core)
		place->number = core;
	return queue;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
