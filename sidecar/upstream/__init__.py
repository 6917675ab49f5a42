"""The provider side: endpoints, their connections, and how a request is sent to one."""
