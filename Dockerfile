# Two stages: the first installs Agora, the second contains the installation without build tools. The version of Python
# is the one that the tests run on.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/agora
COPY requirements.txt ./
RUN pip --python /opt/agora/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE __main__.py ./
COPY domain domain
COPY application application
COPY infrastructure infrastructure
COPY interfaces interfaces
COPY migrations migrations
RUN pip --python /opt/agora/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python /opt/agora/bin/python uninstall --yes setuptools

FROM python:${PYTHON}-slim
RUN groupadd --system --gid 10001 agora \
    && useradd --system --uid 10001 --gid agora --no-create-home --shell /usr/sbin/nologin agora \
    && install --directory --owner agora --group agora /var/lib/agora
COPY --from=build /opt/agora /opt/agora
ENV PATH=/opt/agora/bin:$PATH FASTAPI_ENV=production PYTHONUNBUFFERED=1
# By number: orchestrators verify that it is not root.
USER 10001:10001
WORKDIR /var/lib/agora
EXPOSE 8000
# Liveness, not readiness: otherwise an outage of the database would restart every server, and a restarted server waits
# for the database as well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
# Exec form: SIGTERM reaches the server, which finishes running requests.
ENTRYPOINT ["agora"]
CMD ["serve", "--host", "0.0.0.0"]
