# agentgym/swe: the box for software engineering; needs agentgym/base.
#   docker build -f docker/swe.Dockerfile -t agentgym/swe docker
ARG BASE=agentgym/base
FROM ${BASE}

USER root
COPY install.sh swe.packages /usr/local/share/agentgym/
RUN sh /usr/local/share/agentgym/install.sh swe
USER 10001:10001
