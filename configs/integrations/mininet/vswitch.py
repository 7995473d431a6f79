"""Mininet on vswitch: a switch class, and link parameters without tc.

    mn --custom vswitch.py --switch vswitch --controller none \\
       --topo tree,depth=2,fanout=4 --test pingall
    mn --custom vswitch.py --switch vswitch --controller none \\
       --link tc,bw=10,delay=5ms,loss=1

vswitchd has to run, and vswitchctl to be in PATH. Each Mininet switch is a switch
of the daemon, each of its interfaces a port of kind device with the interface's
name: `sh vswitchctl show --switch s1` and all else works in Mininet's CLI too.

Links of TCLink take their bw, delay, jitter, loss and max_queue_size to the
switch (`vswitchctl impair`), so neither netem nor tc is needed. Links take the
VLAN of the switch's side as well: vlan=10, or trunk='10,20' with native=1:

    net = Mininet(topo, switch=VSwitch, link=TCLink, controller=None)
    self.addLink(h1, s1, vlan=10, delay='5ms')
    self.addLink(s1, s2, trunk='10,20')

There is no spanning tree: of a loop the switches' loop guard shuts one port.
"""

import shutil
import subprocess

from mininet.link import Intf, TCLink
from mininet.log import error
from mininet.node import Switch

# What a link is said to do to its traffic, as vswitchctl has it.
IMPAIR = {
    'bw': lambda value: ('--rate', '%smbit' % value),
    'delay': lambda value: ('--delay', str(value)),
    'jitter': lambda value: ('--jitter', str(value)),
    'loss': lambda value: ('--loss', '%s%%' % value),
    'max_queue_size': lambda value: ('--limit', str(value)),
}
# In which VLANs the switch's side of a link is.
VLAN = ('vlan', 'trunk', 'native')
# Ports that are added or removed by one command.
TOGETHER = 64


def vswitchctl(*words):
    """Runs vswitchctl, which says itself what is wrong. Gives what it printed."""
    ran = subprocess.run(('vswitchctl',) + words, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         universal_newlines=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip() or 'vswitchctl ended with %d' % ran.returncode)
    return ran.stdout


class VSwitch(Switch):
    """A switch of vswitchd."""

    def __init__(self, name, **params):
        # Nothing here speaks OpenFlow: any name will do.
        params.setdefault('dpid', '1')
        Switch.__init__(self, name, **params)
        self.runs = False
        # What it has taken over: Mininet removes links before it stops switches.
        self.taken = []

    @classmethod
    def setup(cls):
        """Whether there is anything to work with."""
        if shutil.which('vswitchctl') is None:
            error('vswitchctl is not in PATH: install vswitch, or set PATH\n')
            raise SystemExit(1)
        vswitchctl('status')

    def start(self, _controllers):
        """Makes the switch and takes its interfaces over."""
        vswitchctl('switch', 'add', self.name, '--if-not-exists')
        self.runs = True
        mine = [intf for intf in self.intfList() if intf.name != 'lo']
        plain = [intf.name for intf in mine if not vlans(intf)]
        for names in (plain[n:n + TOGETHER] for n in range(0, len(plain), TOGETHER)):
            self.add_ports(names)
        for intf in mine:
            if vlans(intf):
                self.add_ports([intf.name], vlans(intf))
            self.impair(intf)

    def add_ports(self, names, options=()):
        """Takes interfaces over."""
        self.taken.extend(names)
        vswitchctl('add-port', '--type', 'device', '--switch', self.name, '--if-not-exists',
                   *(tuple(options) + tuple(names)))

    def stop(self, deleteIntfs=True):
        """Gives the interfaces back, and removes the switch."""
        if self.runs:
            for names in (self.taken[n:n + TOGETHER] for n in range(0, len(self.taken), TOGETHER)):
                vswitchctl('del-port', '--if-exists', *names)
            self.taken = []
            vswitchctl('switch', 'del', '--if-exists', self.name)
            self.runs = False
        Switch.stop(self, deleteIntfs)

    def attach(self, intf):
        """Takes an interface over that was made while the switch runs."""
        if not isinstance(intf, Intf):
            intf = self.nameToIntf[intf]
        self.add_ports([intf.name], vlans(intf))
        self.impair(intf)

    def detach(self, intf):
        """Gives an interface back."""
        vswitchctl('del-port', '--if-exists', str(intf))
        self.taken = [name for name in self.taken if name != str(intf)]

    def impair(self, intf):
        """Does to the traffic of a link what its parameters say. Each end's are for what it sends: those of a host hold for what comes
        into the switch, those of another switch are that one's own."""
        if not self.runs or intf.name not in self.nameToIntf:
            return
        directions = {'out': impairments(intf.params)}
        peer = other_end(intf)
        if peer is not None and not isinstance(peer.node, VSwitch):
            directions['in'] = impairments(peer.params)
        for direction, options in directions.items():
            if options:
                vswitchctl('impair', 'set', intf.name, '--direction', direction, *options)
            elif getattr(intf, 'changed', False):
                vswitchctl('impair', 'clear', intf.name, '--direction', direction)

    def dpctl(self, *words):
        """`dpctl` of the CLI: a command of vswitchctl."""
        return vswitchctl(*words)


class VIntf(Intf):
    """An interface whose traffic is impaired by the switch that it is at, not by tc."""

    changed = False

    def config(self, **params):
        """As Mininet has it. Of a link that is there already the parameters change."""
        result = Intf.config(self, **{key: value for key, value in params.items() if key not in IMPAIR})
        if other_end(self) is not None:
            self.params.update(params)
            self.changed = True
            for intf in (self, other_end(self)):
                if isinstance(intf.node, VSwitch):
                    intf.changed = True
                    intf.node.impair(intf)
        return result


def other_end(intf):
    """The interface at the other end of a link, once both are there."""
    link = intf.link
    if link is None or getattr(link, 'intf2', None) is None:
        return None
    return link.intf2 if intf is link.intf1 else link.intf1


def impairments(params):
    """Options of `vswitchctl impair`."""
    options = []
    for key, option in IMPAIR.items():
        if params.get(key) is not None:
            options.extend(option(params[key]))
    return options


def vlans(intf):
    """Options of `vswitchctl add-port`."""
    options = []
    for key in VLAN:
        if intf.params.get(key) is not None:
            options.extend(('--' + key, str(intf.params[key])))
    return options


def with_switch(init):
    """Makes a link of TCLink at a VSwitch do without tc, however the script came by that class."""
    def wrapped(self, node1, node2, *args, **params):
        if isinstance(node1, VSwitch) or isinstance(node2, VSwitch):
            params.setdefault('cls1', VIntf)
            params.setdefault('cls2', VIntf)
        init(self, node1, node2, *args, **params)
    return wrapped


if not hasattr(TCLink, 'before_vswitch'):
    TCLink.before_vswitch = TCLink.__init__
    TCLink.__init__ = with_switch(TCLink.before_vswitch)

switches = {'vswitch': VSwitch}
