"""Loading lists of Sage into PostgreSQL with dlt, as a data engineer would: `python dlt_load.py < asked.json`.

Runs in the environment of the peers, not in ours. The input is a JSON object with base_url, token, business, lists
(name -> query of the list), sockets (the folder of PostgreSQL's), database and folder. Prints {"seconds"} in the last line.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(asked: dict) -> None:
    """Load once, and say how long it took from the first request to the last commit."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": asked["folder"]}
    import dlt
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {
                "base_url": asked["base_url"] + "/",
                "headers": {"X-Business": asked["business"]},
                "auth": {"type": "bearer", "token": asked["token"]},
                "paginator": {"type": "json_link", "next_url_path": "$.'$next'"},
            },
            "resource_defaults": {"write_disposition": "append", "primary_key": "id"},
            "resources": [
                {"name": name, "endpoint": {"path": name, "params": query, "data_selector": "$.'$items'"}}
                for name, query in asked["lists"].items()
            ],
        }
    )
    credentials = {"host": "localhost", "username": "postgres", "password": "none", "database": asked["database"]}
    # It takes the name of a host alone; what the query says about the host counts for PostgreSQL's own library.
    credentials["query"] = {"host": asked["sockets"]}
    pipeline = dlt.pipeline(
        "peer", destination=dlt.destinations.postgres(credentials), dataset_name="peer", pipelines_dir=asked["folder"]
    )
    began = time.perf_counter()
    pipeline.run(source, loader_file_format="csv")
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(json.load(sys.stdin))
