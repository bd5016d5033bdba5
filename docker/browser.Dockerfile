# agentgym/browser: the box for web pages; needs agentgym/base.
#   docker build -f docker/browser.Dockerfile -t agentgym/browser docker
ARG BASE=agentgym/base
FROM ${BASE}

USER root
COPY install.sh browser.packages /usr/local/share/agentgym/
# Fontconfig's caches name the times of the directories of fonts: with others than the final ones they are never used.
RUN cd /usr/local/share/agentgym \
 && sh install.sh browser \
 && find /usr/share/fonts /usr/local/share/fonts -exec touch -h -d "@$(cat mirror_epoch_s)" {} + \
 && fc-cache --force
USER 10001:10001
