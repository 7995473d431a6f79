// SPDX-License-Identifier: MIT OR GPL-2.0-only
// (The kernel lends functions such as bpf_xdp_metadata_rx_vlan_tag to programs under the GPL only.)
//
// Two XDP programs of which a device port has one: each leads every frame to the AF_XDP socket of the queue that it came by.
//
//   plain      for a device whose frames carry their tags in them
//   with_tag   for one whose driver keeps the outermost tag beside the frame, as a veth does: it is put before the frame
//
// ../src/xdp.rs loads them.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

/* MAX_QUEUES of ../src/xdp.rs. */
#define MAX_QUEUES 32

/* No helper has this number: the loader makes a call of the kernel's function of it (KFUNC of ../src/xdp.rs). */
#define KFUNC 0x7ffffff1

/* linux/net/core/xdp.c. 0; -ENODATA: the frame has no tag beside it. */
static int (*bpf_xdp_metadata_rx_vlan_tag)(struct xdp_md *ctx, __be16 *tpid, __u16 *tci) = (void *)KFUNC;

/* What stands in the 8 bytes (META of ../src/xsk.rs) before a frame; tpid is 0 where there is no tag. */
struct beside {
	__be16 tpid;
	__u16 tci;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

SEC("xdp")
int with_tag(struct xdp_md *ctx)
{
	__be16 tpid = 0;
	__u16 tci = 0;
	struct beside *beside;
	long left;
	int error;

	error = bpf_xdp_metadata_rx_vlan_tag(ctx, &tpid, &tci);
	/* Without knowing, a frame could get into the wrong VLAN. */
	if (error && error != -ENODATA)
		return XDP_ABORTED;
	/* Away with what another program, before a redirect, has left there. */
	left = (void *)(long)ctx->data - (void *)(long)ctx->data_meta;
	if (bpf_xdp_adjust_meta(ctx, left - (long)sizeof(*beside)))
		return XDP_ABORTED;
	beside = (void *)(long)ctx->data_meta;
	if ((void *)(beside + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	beside->tpid = error ? 0 : tpid;
	beside->tci = tci;
	beside->unused = 0;
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
