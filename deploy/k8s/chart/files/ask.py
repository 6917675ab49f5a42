"""Asks a URL until it answers as expected: ask.py URL STATUS. Exit code 1 after a minute without."""

import http.client
import os
import ssl
import sys
import time
from urllib.parse import urlsplit

url, wanted = urlsplit(os.path.expandvars(sys.argv[1])), int(sys.argv[2])
# What is asked here is whether it answers; the API server is the one that checks the certificate.
unverified = ssl.create_default_context()
unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
deadline_s = time.monotonic() + 60
while True:
    if url.scheme == "https":
        asking = http.client.HTTPSConnection(url.netloc, timeout=5, context=unverified)
    else:
        asking = http.client.HTTPConnection(url.netloc, timeout=5)
    try:
        asking.request("GET", url.path)
        found = str(asking.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        found = str(error)
    finally:
        asking.close()
    if found == str(wanted):
        break
    if time.monotonic() > deadline_s:
        sys.exit(f"{url.geturl()}: expected {wanted}, found {found}")
    time.sleep(1)
