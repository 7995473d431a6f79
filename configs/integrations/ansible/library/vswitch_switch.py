"""A switch of vswitchd."""

from ansible.module_utils.vswitch_api import one

DOCUMENTATION = r"""
module: vswitch_switch
short_description: A switch of vswitchd
description:
  - Adds, changes or removes a switch by the API of the daemon.
options:
  name: {description: Name of the switch., required: true, type: str}
  state: {description: Whether it is to be there., choices: [present, absent], default: present, type: str}
  settings:
    description: Settings by the keys of a lab file. What is not named stays as it is; null gives a setting its default.
    type: dict
    default: {}
  socket: {description: Control socket of the daemon., type: path, default: /run/vswitch/control.sock}
author: [vswitch maintainers]
"""

RETURN = r"""
done: {description: "What was done, a line each.", type: list, elements: str, returned: success}
changes: {description: "The same for programs, as the API has it.", type: list, elements: dict, returned: success}
"""


if __name__ == "__main__":
    one("switches")
