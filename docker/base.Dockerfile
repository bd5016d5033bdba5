# agentgym/base: the box in which an agent's commands run, and the parent of the other images.
#   docker build -f docker/base.Dockerfile -t agentgym/base docker
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}

# The agent lives in /tmp, which it can always write to, and what it leaves there dirties no checkout in /workspace.
# The grader has no home: it must read no setting that the agent wrote.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /bin/bash agent \
 && useradd --uid 10002 --home-dir /nonexistent --no-create-home --shell /bin/bash grader \
 && install -d -o agent -g agent /workspace

COPY install.sh base.packages /usr/local/share/agentgym/
RUN sh /usr/local/share/agentgym/install.sh base

ENV LANG=C.UTF-8
WORKDIR /workspace
USER 10001:10001
# tini reaps what the agent's commands orphan; with -s it does so below `docker run --init`, too.
ENTRYPOINT ["/usr/bin/tini", "-s", "--"]
CMD ["bash"]
