localStorage.removeItem("authorized"); // earlier releases stored the password there

const LOGOUT_FAILED = "The server did not end the session: try again";

/* Of a sign-in, keep the access token alone, and in memory: Swagger UI would keep the password and the refresh token too. */
const forgetSecrets = {
  statePlugins: {
    auth: {
      wrapActions: {
        authorizeOauth2: (authorize, system) => ({ auth, token }) => {
          const { name, schema } = auth;
          const kept = authorize({ auth: { name, schema }, token: { access_token: token.access_token } });
          system.authActions.showDefinitions(false); // the form holds the password as long as it is open
          return kept;
        },
        logout: (forget, system) => async (names) => {
          for (const name of names) {
            const token = system.authSelectors.authorized().getIn([name, "token", "access_token"]);
            const headers = { Authorization: `Bearer ${token}` };
            const response = await fetch("/logout", { method: "POST", headers }).catch(() => ({ status: 0 }));
            if (response.status !== 204 && response.status !== 401) {
              system.errActions.newAuthErr({ authId: name, level: "error", source: "auth", message: LOGOUT_FAILED });
              return;
            }
          }
          forget(names);
        },
      },
    },
  },
};

window.ui = SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null, plugins: [forgetSecrets],
});
