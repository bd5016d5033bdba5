# agentgym/browser: the box for web pages; needs agentgym/base.
#   docker build -f docker/browser.Dockerfile -t agentgym/browser docker
ARG BASE=agentgym/base
FROM ${BASE}

USER root
COPY install.sh browser.packages /usr/local/share/agentgym/
RUN sh /usr/local/share/agentgym/install.sh browser
USER 10001:10001
