"""`--admin`: where the commands that ask a running sidecar find it."""

import argparse
import os

from sidecar.config.addresses import Address

# An empty text, so that argparse reads it as it reads what is given: not before it is needed.
_FROM_ENVIRONMENT = ""


def add_admin_option(parser: argparse._ActionsContainer) -> None:
    """Add the option; its value is an Address.

    Without it those variables count that say to a sidecar where to listen, so that no command needs it where
    both have the same environment, as in the sidecar's container.
    """
    parser.add_argument(
        "--admin",
        metavar="ADDRESS",
        default=_FROM_ENVIRONMENT,
        type=_address,
        help="the sidecar's listen.control or listen.admin: unix:/path or host:port; by default"
        " $SIDECAR_LISTEN_CONTROL, else $SIDECAR_LISTEN_ADMIN, else 127.0.0.1:9901",
    )


def _address(text: str) -> Address:
    from sidecar.config.load import listen_from
    from sidecar.config.problems import ConfigError

    try:
        if text != _FROM_ENVIRONMENT:
            return Address.parse(text)
        listen = listen_from(os.environ)
        return listen.control or listen.admin
    except ConfigError as error:
        raise argparse.ArgumentTypeError("; ".join(map(str, error.problems))) from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
