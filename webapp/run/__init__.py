"""Running all of the product on one machine: the embedded servers, and the supervisor behind `synclight up`.

Nothing here imports Flask, SQLAlchemy or RQ: the supervisor lives as long as the product and should weigh little.
"""
