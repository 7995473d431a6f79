"""The whole lab of vswitchd."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vswitch_api import SOCKET, ApiError, call, result

DOCUMENTATION = r"""
module: vswitch_lab
short_description: The whole lab of vswitchd
description:
  - Makes the lab what it is to be. What is not in it is removed. What somebody else has changed of it is put right.
options:
  lab: {description: "The lab, by the keys of a lab file.", required: true, type: dict}
  socket: {description: Control socket of the daemon., type: path, default: /run/vswitch/control.sock}
author: [vswitch maintainers]
"""

RETURN = r"""
done: {description: "What was done, a line each.", type: list, elements: str, returned: success}
changes: {description: "The same for programs, as the API has it.", type: list, elements: dict, returned: success}
"""


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec={"lab": {"type": "dict", "required": True}, "socket": SOCKET},
        supports_check_mode=True,
    )
    query = "?dry_run" if module.check_mode else ""
    try:
        changes, _ = call(module.params["socket"], "PUT", "/v1/lab" + query, module.params["lab"])
    except ApiError as error:
        module.fail_json(msg=str(error))
    for line in changes.get("warnings", []):
        module.warn(line)
    module.exit_json(**result(changes))


if __name__ == "__main__":
    main()
