"""Uses the client that openapi-python-client has made of the daemon's document."""

import sys

from client import Client
from client.api.daemon import status
from client.api.ports import add_port, get_port, list_ports, patch_port
from client.models import Port, PortPatch

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
assert status.sync(client=client).api_version == 1
names = {port.name for port in list_ports.sync(client=client)}
assert "red" in names, names
added = add_port.sync_detailed(client=client, body=Port.from_dict({"name": "generated", "kind": "tap", "switch": "main"}))
assert added.status_code == 201, added
assert any(change.name == "generated" for change in added.parsed.changes), added.parsed
patch_port.sync_detailed(client=client, name="generated", body=PortPatch.from_dict({"mtu": 1400}))
port = get_port.sync(client=client, name="generated")
assert port.mtu == 1400 and port.state.value == "up", port
