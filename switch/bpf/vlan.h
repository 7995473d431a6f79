/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* VLANs (IEEE 802.1Q-2022 clauses 6.9 and 8.6.2), as src/datapath/vlan.rs has them. Before a program at ingress runs the kernel
 * has taken the outermost tag out of the frame and keeps it beside. So putting a customer tag in or taking it out moves no byte,
 * and a GSO frame stays one. */

#pragma once

#include <bpf/bpf_endian.h>
#include "maps.h"

#define VLAN_HLEN 4
#define VLAN_ID 0x0fff
/* Not a VLAN (table 9-2), so no port is in it. */
#define VLAN_RESERVED 0x0fff
/* Of a port: no native VLAN. Of a frame: the daemon is to say which VLAN it is in, or why in none. */
#define NO_VLAN 0xffff

/* How frames of a VLAN leave a port. */
enum form {
	NOT_AT_ALL,
	BARE,
	TAGGED,
};

static __always_inline int is_tag(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* Whether a TRUNK is in a VLAN besides its native one. (A function of its own, as are others that are not static: the verifier
 * goes through it once, and not on each way that leads to it.) */
__noinline int is_member(__u32 slot, __u32 vlan)
{
	struct port *port = bpf_map_lookup_elem(&ports, &slot);
	__u32 word = vlan / 64;
	struct vlans *vlans;

	if (!port || vlan == 0 || vlan >= VLAN_RESERVED)
		return 0;
	if (port->flags & EVERY_VLAN)
		return 1;
	vlans = bpf_map_lookup_elem(&members, &slot);
	/* The verifier does not see what the compiler does: that it is less than 64. */
	asm volatile("" : "+r"(word));
	return vlans && word < 64 && vlans->words[word] >> (vlan & 63) & 1;
}

static __always_inline enum form form_at(const struct port *out, __u32 slot, __u16 vlan)
{
	if (out->vlan == vlan)
		return BARE;
	return out->flags & TRUNK && is_member(slot, vlan) ? TAGGED : NOT_AT_ALL;
}

/* VLAN of a frame that came in; `inner`: the EtherType behind the tag beside it. */
static __always_inline __u16 classify(struct __sk_buff *skb, const struct port *in, __u32 slot, __be16 inner)
{
	__u16 id;

	if (in->flags & PAYLOAD_TAGS)
		return in->vlan;
	/* One tag at most, for a customer's VLAN: whatever else there is, the daemon knows. A frame with less than two bytes behind
	 * a tag in its place, as the daemon sends it, no kernel takes in; beside the frame it would. */
	if (is_tag(inner) || skb->len < ETH_HLEN + 2)
		return NO_VLAN;
	if (skb->vlan_present) {
		if (skb->vlan_proto != bpf_htons(ETH_P_8021Q))
			return NO_VLAN;
		id = skb->vlan_tci & VLAN_ID;
		if (id != 0) {
			if (!(in->flags & ACCEPT_TAGGED) || form_at(in, slot, id) == NOT_AT_ALL)
				return NO_VLAN;
			return id;
		}
		/* A tunnel's frames are never looked into. */
		if (!(in->flags & ACCEPT_TAGGED))
			return NO_VLAN;
	}
	return in->flags & ACCEPT_UNTAGGED ? in->vlan : NO_VLAN;
}

/* Form in which a frame of this VLAN is now; NOT_AT_ALL: in neither, as its tag tells the priority only. */
static __always_inline enum form form_now(struct __sk_buff *skb, __u16 vlan)
{
	if (!skb->vlan_present || vlan == 0)
		return BARE;
	return (skb->vlan_tci & VLAN_ID) == vlan ? TAGGED : NOT_AT_ALL;
}

/* Gives a frame of this VLAN, which is in the form `now`, the form `then`. */
static __always_inline int reshape(struct __sk_buff *skb, __u16 vlan, enum form now, enum form then)
{
	__u16 priority = skb->vlan_present ? skb->vlan_tci & ~VLAN_ID : 0;

	if (now == then)
		return 0;
	if (now != BARE && bpf_skb_vlan_pop(skb))
		return -1;
	return then == TAGGED ? bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), priority | vlan) : 0;
}

/* A tag beside the frame is part of it. */
static __always_inline __u32 length(struct __sk_buff *skb)
{
	return skb->len + (skb->vlan_present ? VLAN_HLEN : 0);
}
