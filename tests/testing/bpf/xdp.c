// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What a station may have at its own interface: a program of XDP that takes nothing, and one that takes all.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("drop")
int drop_all(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("pass")
int pass_all(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
