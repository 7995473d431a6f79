// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Makes a station of a trunk without a VLAN device, which not every kernel has: whatever it sends gets a tag of VLAN 10, and
// whatever of VLAN 10 comes to it loses the tag. The same with two: VLAN 20 inside of VLAN 10, or of service VLAN 10.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN 10
#define INNER 20

SEC("push")
int push_tag(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("pop")
int pop_tag(struct __sk_buff *skb)
{
	if (!skb->vlan_present || skb->vlan_tci != VLAN)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}
static __always_inline int push_two(struct __sk_buff *skb, __u16 outer)
{
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), INNER))
		return TC_ACT_SHOT;
	return bpf_skb_vlan_push(skb, bpf_htons(outer), VLAN) ? TC_ACT_SHOT : TC_ACT_OK;
}

static __always_inline int pop_two(struct __sk_buff *skb, __u16 outer)
{
	if (!skb->vlan_present || skb->vlan_tci != VLAN || skb->vlan_proto != bpf_htons(outer) || bpf_skb_vlan_pop(skb))
		return TC_ACT_SHOT;
	if (!skb->vlan_present || skb->vlan_tci != INNER)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("push_inner")
int push_inner_tag(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), INNER) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("pop_inner")
int pop_inner_tag(struct __sk_buff *skb)
{
	if (!skb->vlan_present || skb->vlan_tci != INNER)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("push_two")
int push_two_tags(struct __sk_buff *skb)
{
	return push_two(skb, ETH_P_8021Q);
}

SEC("pop_two")
int pop_two_tags(struct __sk_buff *skb)
{
	return pop_two(skb, ETH_P_8021Q);
}

SEC("push_service")
int push_service_tag(struct __sk_buff *skb)
{
	return push_two(skb, ETH_P_8021AD);
}

SEC("pop_service")
int pop_service_tag(struct __sk_buff *skb)
{
	return pop_two(skb, ETH_P_8021AD);
}

