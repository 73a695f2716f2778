"""What runs inside a worker or publisher container.

The image holds this folder as the top-level package ``worker``, so its modules import each other
relatively, import Celery, and import nothing else of the lab.
"""
