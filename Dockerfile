# An image with ahi-catalog (docs/containers.md): docker build --tag ahi-catalog .
FROM python:3.13-slim AS build
RUN python -m venv /opt/ahi-catalog
COPY requirements-image.lock /src/
# Every package is checked by its hash.
RUN /opt/ahi-catalog/bin/python -m pip install --no-cache-dir --require-hashes -r /src/requirements-image.lock -c /src/requirements-image.lock
COPY . /src/
RUN /opt/ahi-catalog/bin/python -m pip install --no-cache-dir --no-index --no-deps --no-build-isolation /src/

FROM python:3.13-slim
COPY --from=build /opt/ahi-catalog /opt/ahi-catalog
# What Prefect and temporary files need goes to /tmp; all else may be read-only, and the user anyone.
ENV PATH=/opt/ahi-catalog/bin:$PATH HOME=/tmp PREFECT_HOME=/tmp/prefect PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
VOLUME ["/tmp"]
USER 10001
# No entry point: workers of Prefect run commands of Prefect in it.
CMD ["ahi-catalog", "--help"]
