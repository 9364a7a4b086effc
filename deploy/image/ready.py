"""Whether the server in this container would take a request: the HEALTHCHECK of an image, without a shell or curl.

It looks for it where deploy/image/serve has it listen. Standard library only.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4


def main() -> int:
    port = int(os.environ.get("SWIRES_PORT") or os.environ.get("PORT") or 8000)
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"not ready: {error}")
        return 1
    finally:
        connection.close()
    print(f"/ready answers {status}")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
